/* Unit tests of [origin]: pages of this host in all spellings, lists of origins and hosts, names of this machine, DNS
   rebinding, and entries that no request can match. */
#include "../library.h"

#include "../test.h"

enum { UNTRUSTED = 0, TRUSTED = 1 };

#define COUNT(samples) (sizeof samples / sizeof samples[0])

static const char *shown(const char *text) {
    return text ? text : "(none)";
}

/* A request in memory of its own that ends at an unreadable page. */
typedef struct parsed {
    char *data;
    size_t size;
    wss_request request;
} parsed;

/* host, origin: NULL: no such line. */
static void parse(parsed *p, const char *host, const char *origin, const char *lines) {
    char head[1024];
    snprintf(head, sizeof head, "GET / HTTP/1.%c\r\n%s%s%s%s%s%s%s\r\n", host ? '1' : '0', host ? "Host: " : "",
             host ? host : "", host ? "\r\n" : "", origin ? "Origin: " : "", origin ? origin : "", origin ? "\r\n" : "",
             lines);
    memset(&p->request, 0x5a, sizeof p->request);
    p->size = strlen(head);
    p->data = guard_copy(head, p->size);
    int rule = wss__http_parse(p->data, p->size, &p->request);
    if (rule) printf("refused by rule %d: %s\n", rule, head);
    CHECK_INT(rule, WSS__HTTP_GOOD);
}

static void forget(parsed *p) {
    guard_free(p->data, p->size);
}

static int allowed(const char *host, const char *origin, const char *lines, const char *list, int trusted) {
    parsed p;
    parse(&p, host, origin, lines);
    int got = wss__origin_allowed(&p.request, list, trusted);
    forget(&p);
    return got;
}

/* ---- this host's own pages ---- */

typedef struct own_sample {
    const char *host;
    const char *origin;
    int want;
} own_sample;

static void own_pages(void) {
    static const own_sample samples[] = {
        {"a.com", NULL, 1},
        {"a.com", "", 1},
        {"a.com", "http://a.com", 1},
        {"a.com", "https://a.com", 1},
        {"a.com", "ws://a.com", 1},
        {"a.com", "wss://a.com", 1},
        {"A.com", "HTTP://a.COM", 1},
        {"a.com", "http://a.com/", 1},
        {"a.com", "wss://a.com/", 1},
        {"a.com", "http://a.com:80", 1},
        {"a.com", "https://a.com:443", 1},
        {"a.com", "ws://a.com:80/", 1},
        {"a.com", "wss://a.com:443", 1},
        {"a.com:80", "http://a.com", 1},
        {"a.com:80", "ws://a.com", 1},
        {"a.com:443", "https://a.com", 1},
        {"a.com:443", "wss://a.com", 1},
        {"a.com:8080", "http://a.com:8080", 1},
        {"a.com:8080", "https://a.com:8080", 1},
        {"a.com", "a.com", 1},
        {"a.com", "A.COM/", 1},
        {"a.com:8080", "a.com", 1},
        {"a.com:8080", "a.com:8080", 1},
        {"localhost:8080", "http://localhost:8080", 1},
        {"[::1]", "http://[::1]", 1},
        {"[::1]:80", "http://[::1]", 1},
        {"[::1]:9000", "http://[::1]:9000", 1},
        {"[::1]:9000", "[::1]:9000", 1},
        {"[::1]:9000", "[::1]", 1},
        {"192.0.2.1", "http://192.0.2.1", 1},
        {"a.com", "null", 0},
        {"null", "null", 0},
        {"a.com", "/", 0},
        {"a.com", "//", 0},
        {"a.com", "http://", 0},
        {"a.com", "http:///", 0},
        {"a.com", "http:a.com", 0},
        {"a.com", "http:/a.com", 0},
        {"a.com", "http://a.com//", 0},
        {"a.com", "http://a.com/x", 0},
        {"a.com", "http://a.com:8080", 0}, /* no port is the scheme's, not any */
        {"a.com", "https://a.com:80", 0},
        {"a.com", "http://a.com:443", 0},
        {"a.com:443", "http://a.com", 0},
        {"a.com:80", "https://a.com", 0},
        {"a.com:8080", "http://a.com", 0},
        {"a.com:8080", "http://a.com:80800", 0},
        {"a.com:8080", "http://a.com:", 0},
        {"a.com:8080", "a.com:8081", 0},
        {"a.com", "a.com:8080", 0},
        {"a.com", "http://b.com", 0},
        {"a.com", "http://a.com.b.com", 0},
        {"a.com", "http://xa.com", 0},
        {"a.com", "http://a.co", 0},
        {"a.com", "http://user@a.com", 0},
        {"a.com", "http://a.com http://b.com", 0},
        {"a.com", "app://a.com", 0}, /* schemes of which nothing is known */
        {"a.com:80", "app://a.com:80", 0},
        {"a.com", "app://a.com:80", 0},
        {"a.com", "file://a.com", 0},
        {"a.com", "file://", 0},
        {"a.com", "://a.com", 0},
        {"[::1]", "http://[::1]x80", 0},
        {"[::1]", "http://[::1", 0},
        {"localhost:8080", "http://127.0.0.1:8080", 0},
        {NULL, NULL, 1},
        {NULL, "", 1},
        {NULL, "http://a.com", 0},
        {NULL, "http://", 0},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        const own_sample *s = &samples[i];
        for (int with = 0; with < 4; with++) { /* it is the same with a list of others, and whatever is trusted */
            int got = allowed(s->host, s->origin, "", with & 1 ? "https://other.example, app://x" : NULL, with >> 1);
            if (got != s->want) printf("own: %s at %s\n", shown(s->origin), shown(s->host));
            CHECK_INT(got, s->want);
        }
    }
}

/* More than one line is refused before this; here none of them counts. */
static void two_origins(void) {
    CHECK_INT(allowed("a.com", "http://a.com", "Origin: http://evil.com\r\n", NULL, UNTRUSTED), 0);
    CHECK_INT(allowed("a.com", "http://evil.com", "Origin: http://a.com\r\n", NULL, UNTRUSTED), 0);
}

/* ---- what proxies say ---- */

typedef struct proxy_sample {
    const char *host;
    const char *origin;
    const char *lines;
    int want; /* where they are trusted */
    int else_; /* where they are not */
} proxy_sample;

static void behind_proxies(void) {
    static const proxy_sample samples[] = {
        /* the scheme: a page of http is none of a host that is asked for with https */
        {"a.com", "https://a.com", "X-Forwarded-Proto: https\r\n", 1, 1},
        {"a.com", "https://a.com", "X-Forwarded-Proto: HTTPS\r\n", 1, 1},
        {"a.com", "https://a.com", "X-Forwarded-Proto: wss\r\n", 1, 1},
        {"a.com", "https://a.com:443", "x-forwarded-proto: https\r\n", 1, 1},
        {"a.com", "http://a.com", "X-Forwarded-Proto: http\r\n", 1, 1},
        {"a.com", "http://a.com", "X-Forwarded-Proto: ws\r\n", 1, 1},
        {"a.com", "http://a.com", "X-Forwarded-Proto: https\r\n", 0, 1},
        {"a.com", "http://a.com", "X-Forwarded-Proto: wss\r\n", 0, 1},
        {"a.com", "https://a.com", "X-Forwarded-Proto: http\r\n", 0, 1},
        {"a.com", "a.com", "X-Forwarded-Proto: https\r\n", 1, 1},
        {"a.com:8443", "https://a.com:8443", "X-Forwarded-Proto: https\r\n", 1, 1},
        {"a.com:8443", "https://a.com", "X-Forwarded-Proto: https\r\n", 0, 0},
        {"a.com", "https://a.com:8443", "X-Forwarded-Proto: https\r\n", 0, 0},
        {"a.com", "https://a.com", "X-Forwarded-Proto:\r\n", 1, 1},
        {"a.com", "https://a.com", "X-Forwarded-Proto: ,\r\n", 1, 1},
        /* the last of several: what stands before may be the client's */
        {"a.com", "http://a.com", "X-Forwarded-Proto: http, https\r\n", 0, 1},
        {"a.com", "https://a.com", "X-Forwarded-Proto: http, https\r\n", 1, 1},
        {"a.com", "https://a.com", "X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n", 1, 1},
        {"a.com", "http://a.com", "X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n", 0, 1},
        /* the host */
        {"10.0.0.1:9000", "https://a.com", "X-Forwarded-Host: a.com\r\n", 1, 0},
        {"10.0.0.1:9000", "https://a.com", "X-Forwarded-Host: a.com\r\nX-Forwarded-Proto: https\r\n", 1, 0},
        {"10.0.0.1:9000", "http://a.com", "X-Forwarded-Host: a.com\r\nX-Forwarded-Proto: https\r\n", 0, 0},
        {"10.0.0.1:9000", "https://a.com:8443", "X-Forwarded-Host: a.com:8443\r\n", 1, 0},
        {"10.0.0.1:9000", "https://a.com", "X-Forwarded-Host: A.COM:443\r\n", 1, 0},
        {"10.0.0.1:9000", "a.com", "X-Forwarded-Host: a.com\r\n", 1, 0},
        {"10.0.0.1:9000", "https://a.com:8443", "X-Forwarded-Host: a.com\r\n", 0, 0},
        {"10.0.0.1:9000", "https://a.com", "X-Forwarded-Host: b.com\r\n", 0, 0},
        {"10.0.0.1:9000", "https://a.com", "X-Forwarded-Host: a.com, b.com\r\n", 0, 0},
        {"10.0.0.1:9000", "https://b.com", "X-Forwarded-Host: a.com, b.com\r\n", 1, 0},
        {"10.0.0.1:9000", "https://b.com", "X-Forwarded-Host: a.com\r\nX-Forwarded-Host: b.com\r\n", 1, 0},
        {"10.0.0.1:9000", "https://a.com", "X-Forwarded-Host: a.com\r\nX-Forwarded-Host: b.com\r\n", 0, 0},
        {"a.com", "https://a.com", "X-Forwarded-Host: b.com\r\n", 0, 1}, /* then that is the host, and no other */
        {"a.com", "https://a.com", "X-Forwarded-Host: \r\n", 1, 1},
        {"a.com", "null", "X-Forwarded-Host: null\r\n", 0, 0},
        {"a.com", "app://b.com", "X-Forwarded-Host: b.com\r\nX-Forwarded-Proto: app\r\n", 0, 0},
        {"a.com", "", "X-Forwarded-Host: b.com\r\n", 1, 1},
        {"a.com", NULL, "X-Forwarded-Host: b.com\r\n", 1, 1},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        const proxy_sample *s = &samples[i];
        int got = allowed(s->host, s->origin, s->lines, NULL, TRUSTED);
        int forged = allowed(s->host, s->origin, s->lines, NULL, UNTRUSTED);
        if (got != s->want || forged != s->else_) printf("proxy: %s at %s, %s", shown(s->origin), shown(s->host), s->lines);
        CHECK_INT(got, s->want);
        CHECK_INT(forged, s->else_);
        CHECK_INT(forged, allowed(s->host, s->origin, "", NULL, UNTRUSTED)); /* as if there were no lines */
    }
}

/* ---- lists of origins ---- */

typedef struct list_sample {
    const char *origin;
    const char *list;
    int want;
} list_sample;

static void origin_lists(void) {
    static const list_sample samples[] = {
        {"http://b.com", "", 0},
        {"http://b.com", ",", 0},
        {"http://b.com", " ", 0},
        {"http://b.com", "http://b.com", 1},
        {"http://b.com", "HTTP://B.com", 1},
        {"HTTP://B.com", "http://b.com", 1},
        {"http://b.com:80", "http://b.com", 1},
        {"https://b.com", "https://b.com:443", 1},
        {"https://b.com:443", "https://b.com", 1},
        {"https://b.com:8443", "https://b.com:8443", 1},
        {"http://[::1]:3000", "http://[::1]:3000", 1},
        {"http://b.com", " https://c.com , http://b.com ", 1},
        {"http://b.com", "https://c.com,,http://b.com,", 1},
        {"http://b.com", "\thttp://b.com\t", 1},
        {"http://b.com", "*", 1},
        {"http://b.com", "https://c.com, *", 1},
        {"app://x", "*", 1},
        {"null", "*", 1},
        {"null", "null", 1},
        {"null", "http://b.com,null", 1},
        {"null", "http://null", 0},
        {"null", "null://", 0},
        {"file://", "file://", 1},
        {"FILE://", "file://", 1},
        {"file://x", "file://", 0},
        {"file://", "null", 0},
        {"null", "file://", 0},
        {"chrome-extension://abc", "chrome-extension://abc", 1},
        {"chrome-extension://abd", "chrome-extension://abc", 0},
        {"Capacitor://localhost", "capacitor://LOCALHOST", 1},
        {"app://x:80", "app://x", 0},
        {"app://x:80", "app://x:80", 1},
        {"http://b.com", "https://b.com", 0},
        {"https://b.com", "http://b.com", 0},
        {"http://b.com", "ws://b.com", 0}, /* a page has no such scheme */
        {"http://b.com:8080", "http://b.com", 0},
        {"https://b.com:80", "https://b.com", 0},
        {"https://b.com", "https://b.com:8443", 0},
        {"http://b.com", "b.com", 0},
        {"http://x.b.com", "http://b.com", 0},
        {"http://b.com", "http://x.b.com", 0},
        {"http://b.com", "null", 0},
        {"http://b.com", "http://b.comx", 0},
        {"http://b.com", "http://", 0},
        {"http://", "http://b.com", 0},
        {"b.com", "http://b.com", 0},
        /* a star behind a scheme: any host of it, any port */
        {"app://x", "app://*", 1},
        {"app://x:1", "app://*", 1},
        {"app://", "app://*", 1},
        {"APP://x", "app://*", 1},
        {"apps://x", "app://*", 0},
        {"xapp://x", "app://*", 0},
        {"app", "app://*", 0},
        {"null", "app://*", 0},
        {"https://b.com", "https://*", 1},
        {"https://b.com:8443", "https://*", 1},
        {"http://b.com", "https://*", 0},
        {"moz-extension://0-1", "chrome-extension://*, moz-extension://*", 1},
        /* a star before a dot: any name below, and not the name itself */
        {"https://a.example.org", "https://*.example.org", 1},
        {"https://a.b.example.org", "https://*.example.org", 1},
        {"https://A.Example.ORG", "https://*.example.org", 1},
        {"https://a.example.org", "https://*.EXAMPLE.org", 1},
        {"https://a.example.org:443", "https://*.example.org", 1},
        {"https://a.example.org", "https://*.example.org:443", 1},
        {"https://a.example.org:8443", "https://*.example.org:8443", 1},
        {"app://a.x", "app://*.x", 1},
        {"https://*.example.org", "https://*.example.org", 1},
        {"https://example.org", "https://*.example.org", 0},
        {"https://.example.org", "https://*.example.org", 0},
        {"https://evilexample.org", "https://*.example.org", 0},
        {"https://a.evilexample.org", "https://*.example.org", 0},
        {"https://a.example.org.evil.com", "https://*.example.org", 0},
        {"https://a.example.org:8443", "https://*.example.org", 0},
        {"https://a.example.org", "https://*.example.org:8443", 0},
        {"http://a.example.org", "https://*.example.org", 0},
        {"https://org", "https://*.example.org", 0},
        {"https://", "https://*.example.org", 0},
        {"null", "https://*.example.org", 0},
        {"https://evilexample.org", "https://*example.org", 0}, /* refused when the server is made */
        {"https://a.b.org", "https://a.*.org", 0},
        {"https://a.org", "https://*.", 0},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        const list_sample *s = &samples[i];
        int got = allowed("a.com", s->origin, "", s->list, UNTRUSTED);
        if (got != s->want) printf("origin: %s in %s\n", s->origin, s->list);
        CHECK_INT(got, s->want);
    }
    CHECK_INT(allowed("a.com", "http://a.com", "", "http://b.com", UNTRUSTED), 1); /* a list adds, */
    CHECK_INT(allowed("a.com", NULL, "", "http://b.com", UNTRUSTED), 1);           /* and takes nothing */
}

/* ---- hosts ---- */

static void host_lists(void) {
    static const list_sample samples[] = {
        {"a.com", "a.com", 1},         {"A.com", "a.COM", 1},      {"a.com:8080", "a.com", 1},
        {"a.com:8080", "a.com:8080", 1}, {"a.com", "a.com:80", 1}, {"a.com", "a.com:443", 1},
        {"a.com:80", "a.com:80", 1},   {"[::1]:9", "[::1]", 1},    {"[::1]", "b, [::1]:80", 1},
        {"a.com", "b.com, a.com", 1},  {"a.com", "a.com:8080,a.com:80", 1}, {"a.com:1", "a.com:2,\ta.com:1", 1},
        {"A.com:8080", "a.COM:8080", 1}, {"localhost", "localhost", 1},
        {"a.com", "", 0},              {"a.com", ",", 0},          {"a.com", "b.com", 0},
        {"a.com:8080", "a.com:80", 0}, {"a.com", "a.com:8080", 0}, {"a.com:443", "a.com:80", 0},
        {"x.a.com", "a.com", 0},       {"a.com", "a.co", 0},       {"127.0.0.1", "localhost", 0},
        {"localhost", "a.com", 0},     {"[::1]", "[::2]", 0},      {"a.com", "*", 0},
        {"a.com", "*.com", 0},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        const list_sample *s = &samples[i];
        parsed p;
        parse(&p, s->origin, NULL, "");
        for (int with = 0; with < 8; with++) { /* where there is a list it alone counts */
            int got = wss__origin_judge_host(&p.request, s->list, with & 1, with >> 1 & 1, with >> 2);
            CHECK_INT(got, s->want ? WSS__HTTP_GOOD : WSS__HTTP_RULE_HOST);
        }
        if (wss__origin_is_listed_host(wss__base_text(s->origin), s->list) != s->want)
            printf("host: %s in %s\n", shown(s->origin), s->list);
        CHECK_INT(wss__origin_is_listed_host(wss__base_text(s->origin), s->list), s->want);
        forget(&p);
    }
}

static void local_names(void) {
    static const struct {
        const char *host;
        int want;
    } samples[] = {
        {"localhost", 1}, {"LocalHost", 1}, {"localhost.", 1}, {"localhost:8080", 1}, {"localhost.:8080", 1},
        {"a.localhost", 1}, {"a.b.LOCALHOST.", 1}, {"a.localhost:80", 1}, {"127.0.0.1", 1}, {"127.0.0.1:80", 1},
        {"127.0.0.1.", 1}, {"127.255.255.254", 1}, {"[::1]", 1}, {"[::1]:80", 1}, {"[0:0::1]", 1},
        {"[::ffff:127.0.0.1]", 1},
        {"", 0}, {".", 0}, {":80", 0}, {".localhost", 0}, {"localhost..", 0}, {"xlocalhost", 0}, {"local", 0},
        {"localhost.com", 0}, {"localhost.evil.com", 0}, {"a.localhost.com", 0}, {"127.0.0.1.evil.com", 0},
        {"127.1", 0}, {"0x7f.0.0.1", 0}, {"2130706433", 0}, {"0.0.0.0", 0}, {"[::]", 0}, {"[::2]", 0}, {"10.0.0.1", 0},
        {"128.0.0.1", 0}, {"[fe80::1]", 0}, {"attacker.example", 0}, {"evil.com:80", 0},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        size_t size = strlen(samples[i].host);
        char *copy = guard_copy(samples[i].host, size);
        int got = wss__origin_is_local_host(wss__base_span(copy, size));
        if (got != samples[i].want) printf("local: %s\n", samples[i].host);
        CHECK_INT(got, samples[i].want);
        guard_free(copy, size);
    }
}

/* Every combination, against the words of the contract. */
static void rebinding(void) {
    static const char *const hosts[] = {NULL, "localhost:9201", "evil.example:9201"};
    static const char *const origins[] = {NULL, "http://evil.example:9201", "HTTP://evil.example", "https://evil.example",
                                          "null", "", "app://x"};
    static const char *const lines[] = {"", "Forwarded: for=1.2.3.4\r\n", "X-Forwarded-For: 1.2.3.4\r\n", "Via: 1.1 x\r\n",
                                        "via:\r\n", "X-Real-IP: 1.2.3.4\r\n", "X-Forwarded-Host: localhost\r\n"};
    int refused = 0;
    for (size_t h = 0; h < COUNT(hosts); h++)
        for (size_t o = 0; o < COUNT(origins); o++)
            for (size_t l = 0; l < COUNT(lines); l++)
                for (int bits = 0; bits < 8; bits++) {
                    int upgrade = bits & 1;
                    int local = bits >> 1 & 1;
                    int trusted = bits >> 2;
                    parsed p;
                    parse(&p, hosts[h], origins[o], lines[l]);
                    int a_page = o == 1 || o == 2;       /* an Origin of http, */
                    int straight = l == 0 || l > 4;      /* and none of the three lines */
                    int may_be = upgrade ? a_page && straight : !trusted;
                    int want = local && h == 2 && may_be ? WSS__HTTP_RULE_REBINDING : WSS__HTTP_GOOD;
                    int got = wss__origin_judge_host(&p.request, NULL, upgrade, local, trusted);
                    if (got != want)
                        printf("rebinding: %s, %s, %s, %d\n", shown(hosts[h]), shown(origins[o]), lines[l], bits);
                    CHECK_INT(got, want);
                    refused += got != WSS__HTTP_GOOD;
                    /* a list of hosts takes its place; a request without Host passes */
                    got = wss__origin_judge_host(&p.request, "evil.example", upgrade, local, trusted);
                    CHECK_INT(got, h == 1 ? WSS__HTTP_RULE_HOST : WSS__HTTP_GOOD);
                    forget(&p);
                }
    CHECK_INT(refused, (int)(COUNT(origins) * COUNT(lines)) + 2 * 3 * 2);
}

/* ---- entries that nothing can match ---- */

static void faults_of_origins(void) {
    static const char *const good[] = {
        "*", "null", "file://", "FILE://", "file://*", "http://a", "https://example.org", "HTTPS://Example.ORG",
        "https://example.org:8443", "https://example.org:0", "https://example.org:65535", "http://localhost:3000",
        "http://127.0.0.1", "http://[::1]", "http://[::1]:3000", "https://*.example.org", "https://*.example.org:8443",
        "https://*", "app://*", "app://x", "app://*.x", "chrome-extension://abcdefghij", "capacitor://localhost",
        "ws://a", "wss://a", "https://xn--e1afmkfd.example", "https://a_b", "x+y-z.1://a", "https://example.org.",
    };
    static const char *const bad[] = {
        "https://example.org/", "example.org", "*.example.org", "https://a https://b", "https://a;https://b",
        "https://example.org:*", "https://*:8443", "https://*:*", "https://example.org/path", "https://*/",
        "https://*.example.org/", "example.org:8443", "localhost", "localhost:3000", "https:example.org",
        "https:/example.org", "https://", "https:///", "file:///", "file:", "app://", "NULL", "Null", "none", "all", "**",
        "https://**", "https://*.", "https://*.:80", "https://*example.org", "https://*.*.org", "https://a.*.org",
        "https://a*", "https://example.*", "https://*.a*", "*://example.org", "*://*", "://example.org", "://", ":", "//",
        "//example.org", "/", "https://user@example.org", "https://example.org:", "https://example.org:65536",
        "https://example.org:x", "https://example.org:-1", "https://:443", "https://::1", "https://[::1", "https://[x]",
        "https://[::1]x", "https://example.org?x", "https://example.org#x", "https://exam ple.org", "https://ex\tample.org",
        "https://b\xc3\xbc.example", "'https://a'", "\"https://a\"", "https://a\"", "[https://a]", "https//a",
        "ht_tps://a", "https://a%zz", "https://example.org;",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        size_t size = strlen(good[i]);
        char *copy = guard_copy(good[i], size);
        const char *fault = wss__origin_fault(wss__base_span(copy, size));
        if (fault) printf("fault: %s: %s\n", good[i], fault);
        CHECK(!fault);
        guard_free(copy, size);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        size_t size = strlen(bad[i]);
        char *copy = guard_copy(bad[i], size);
        const char *fault = wss__origin_fault(wss__base_span(copy, size));
        if (!fault) printf("no fault: %s\n", bad[i]);
        CHECK(fault && strlen(fault) > 10 && strlen(fault) <= 70); /* more would be cut */
        guard_free(copy, size);
    }
}

static void advice(void) {
    static const struct {
        const char *entry;
        const char *want;
    } samples[] = {
        {"https://example.org/", "slash"}, {"example.org", "SCHEME://HOST"}, {"*.example.org", "SCHEME://HOST"},
        {"https://a https://b", "commas"}, {"https://a;https://b", "commas"}, {"https://example.org:*", "port"},
        {"https://example.org:65536", "port"},
        {"https://*:80", "without a port"}, {"https://*example.org", "star"}, {"https://", "valid host"},
    };
    static const struct {
        const char *entry;
        const char *want;
    } hosts[] = {
        {"*", "without *"}, {"*.x", "without *"}, {"::1", "brackets"}, {"https://api.x", "host alone"}, {"api.x/", "slash"},
        {"a b", "commas"}, {"a;b", "commas"}, {"a:x", "HOST:PORT"},
    };
    for (size_t i = 0; i < COUNT(samples); i++) {
        const char *fault = wss__origin_fault(wss__base_text(samples[i].entry));
        if (!fault || !strstr(fault, samples[i].want)) printf("advice: %s: %s\n", samples[i].entry, shown(fault));
        CHECK(fault && strstr(fault, samples[i].want));
    }
    for (size_t i = 0; i < COUNT(hosts); i++) {
        const char *fault = wss__origin_host_fault(wss__base_text(hosts[i].entry));
        if (!fault || !strstr(fault, hosts[i].want)) printf("advice: %s: %s\n", hosts[i].entry, shown(fault));
        CHECK(fault && strstr(fault, hosts[i].want));
    }
}

static void faults_of_hosts(void) {
    static const char *const good[] = {
        "a", "a.com", "A.COM", "a.com:80", "a.com:65535", "localhost", "localhost:3000", "127.0.0.1", "127.0.0.1:80",
        "[::1]", "[::1]:80", "a_b", "a.com.", "xn--e1afmkfd.example",
    };
    static const char *const bad[] = {
        "*", "*.x", "a.*", "::1", "::1:80", "fe80::1", "[::1", "[::1]x", "[x]", "[]", ":80", "a:", "a:x", "a:65536", "a:1:2",
        "https://api.x", "api.x/", "/", "a b", "a;b", "user@a", "a?b", "b\xc3\xbc.example", "\"a\"", "a%zz", "a\tb",
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        const char *fault = wss__origin_host_fault(wss__base_text(good[i]));
        if (fault) printf("fault: %s: %s\n", good[i], fault);
        CHECK(!fault);
        CHECK_INT(wss__origin_is_listed_host(wss__base_text(good[i]), good[i]), 1); /* it matches itself, */
        parsed p;
        parse(&p, good[i], NULL, ""); /* which a request can name */
        CHECK_INT(wss__origin_judge_host(&p.request, good[i], 1, 1, 0), WSS__HTTP_GOOD);
        forget(&p);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        const char *fault = wss__origin_host_fault(wss__base_text(bad[i]));
        if (!fault) printf("no fault: %s\n", bad[i]);
        CHECK(fault && strlen(fault) > 10 && strlen(fault) <= 70);
    }
}

static void faults_of_lists(void) {
    wss__span entry = wss__base_span(NULL, 0);
    CHECK(!wss__origin_list_fault(NULL, wss__origin_fault, &entry));
    CHECK(!wss__origin_list_fault("", wss__origin_fault, &entry));
    CHECK(!wss__origin_list_fault(" ,, ", wss__origin_fault, &entry));
    CHECK(!wss__origin_list_fault("https://a, null,https://*.b ,", wss__origin_fault, &entry));
    CHECK(wss__origin_list_fault("https://a, b.com ,c.com", wss__origin_fault, &entry));
    CHECK(wss__base_equal(entry, wss__base_text("b.com"))); /* the first of them */
    CHECK(!wss__origin_list_fault("a.com,b.com:80", wss__origin_host_fault, &entry));
    CHECK(wss__origin_list_fault("a.com,b.com:x", wss__origin_host_fault, &entry));
    CHECK(wss__base_equal(entry, wss__base_text("b.com:x")));
}

static uint32_t drawn = 1;

static size_t draw(size_t count) {
    drawn = drawn * 1664525u + 1013904223u;
    return (drawn >> 8) % count;
}

/* Entries made of all kinds of parts: what passes matches an origin that the entry tells how to make, what has a star
   anywhere but in the three places for it never passes, and no text crashes. */
static void what_passes_can_match(void) {
    static const char *const schemes[] = {"", "http://", "https://", "app://", "x-y.z+1://", "://", "file://", "*://", "http:/",
                                          "http:", "WSS://", "'https://"};
    static const char *const hosts[] = {"", "*", "*.", "*.a.example", "a.example", "*a", "a*", "[::1]", "[", "]", "a b", "null",
                                        "*.*.a", "1.2.3.4", "A_b", "\xff", "*.a%41", "*.[::1]", "."};
    static const char *const tails[] = {"", "", "", ":80", ":443", ":", ":*", ":99999", "/", "/x", ";", "?", ":80/"};
    int passed = 0;
    int refused = 0;
    for (int round = 0; round < 20000; round++) {
        char entry[64];
        char origin[64];
        snprintf(entry, sizeof entry, "%s%s%s", schemes[draw(COUNT(schemes))], hosts[draw(COUNT(hosts))],
                 tails[draw(COUNT(tails))]);
        if (!entry[0]) continue;
        if (wss__origin_fault(wss__base_text(entry))) {
            refused++;
            continue;
        }
        passed++;
        char *star = strchr(entry, '*');
        if (strcmp(entry, "*") == 0) snprintf(origin, sizeof origin, "http://anybody.example");
        else if (star) snprintf(origin, sizeof origin, "%.*sb%s", (int)(star - entry), entry, star + 1);
        else snprintf(origin, sizeof origin, "%s", entry);
        if (!allowed("server.example", origin, "", entry, UNTRUSTED)) printf("passes and matches nothing: %s\n", entry);
        CHECK_INT(allowed("server.example", origin, "", entry, UNTRUSTED), 1);
        if (star && strcmp(entry, "*") != 0) {
            CHECK(star - entry > 3 && memcmp(star - 3, "://", 3) == 0);
            CHECK(star[1] == '.' || star[1] == 0);
            CHECK(!strchr(star + 1, '*'));
            if (star[1] == '.') { /* nor the domain itself, nor one that ends like it */
                snprintf(origin, sizeof origin, "%.*s%s", (int)(star - entry), entry, star + 2);
                CHECK_INT(allowed("server.example", origin, "", entry, UNTRUSTED), 0);
                snprintf(origin, sizeof origin, "%.*sevil%s", (int)(star - entry), entry, star + 2);
                CHECK_INT(allowed("server.example", origin, "", entry, UNTRUSTED), 0);
            }
        }
    }
    CHECK(passed > 1000 && refused > 1000);
}

int main(void) {
    alarm(100);
    RUN(own_pages);
    RUN(two_origins);
    RUN(behind_proxies);
    RUN(origin_lists);
    RUN(host_lists);
    RUN(local_names);
    RUN(rebinding);
    RUN(faults_of_origins);
    RUN(advice);
    RUN(faults_of_hosts);
    RUN(faults_of_lists);
    RUN(what_passes_can_match);
    return test_end("origin");
}
