/* Fuzz target of [json] and [args]: a recursive reader, written apart from the header, agrees on what is valid, what the
   members are and what they hold; taking the type out leaves the others; what is read can be written and read again; the
   work is linear. */
#define FUZZ_TARGET "json"
#include "work.h"

#include "../script.h"
#include "fuzz.h"
#include "reference.h"

#include <math.h>

enum { MEMBERS = 300 };

/* The reference. A place in the text, and the first thing that was wrong. */
typedef struct reader {
    const char *at;
    const char *end;
    int error;
} reader;

static int peek(const reader *r) {
    return r->at < r->end ? (unsigned char)*r->at : -1;
}

static int take(reader *r, const char *set) {
    int byte = peek(r);
    if (byte <= 0 || !strchr(set, byte)) return 0;
    r->at++;
    return byte;
}

static void need(reader *r, const char *set) {
    if (!r->error && !take(r, set)) r->error = WSS_ERR_JSON;
}

static void blanks(reader *r) {
    while (take(r, " \t\r\n")) {
    }
}

static void word(reader *r, const char *letters) {
    for (; *letters; letters++) {
        char one[2] = {*letters, 0};
        need(r, one);
    }
}

static void string(reader *r) {
    need(r, "\"");
    while (!r->error && peek(r) != '"') {
        int byte = peek(r);
        if (byte < 0x20) r->error = WSS_ERR_JSON; /* the end too */
        else r->at++;
        if (byte != '\\' || r->error) continue;
        int escape = take(r, "\"\\/bfnrtu");
        if (!escape) r->error = WSS_ERR_JSON;
        for (int i = 0; i < 4 && escape == 'u'; i++) need(r, "0123456789abcdefABCDEF");
    }
    need(r, "\"");
}

static void digits(reader *r) {
    need(r, "0123456789");
    while (take(r, "0123456789")) {
    }
}

static void number(reader *r) {
    take(r, "-");
    if (!take(r, "0")) digits(r);
    if (!r->error && take(r, ".")) digits(r);
    if (!r->error && take(r, "eE")) {
        take(r, "+-");
        if (!r->error) digits(r);
    }
}

static void value(reader *r, int levels);

/* After an opening bracket. */
static void items(reader *r, int levels, int close) {
    char closing[2] = {(char)close, 0};
    blanks(r);
    if (take(r, closing)) return;
    do {
        blanks(r);
        if (close == '}') {
            string(r);
            blanks(r);
            need(r, ":");
            blanks(r);
        }
        if (!r->error) value(r, levels);
        blanks(r);
    } while (!r->error && take(r, ","));
    need(r, closing);
}

static void value(reader *r, int levels) {
    int first = peek(r);
    if ((first == '{' || first == '[') && levels == 0) {
        r->error = WSS_ERR_DEPTH;
    } else if (first == '{' || first == '[') {
        r->at++;
        items(r, levels - 1, first == '{' ? '}' : ']');
    } else if (first == '"') {
        string(r);
    } else if (first == 't') {
        word(r, "true");
    } else if (first == 'f') {
        word(r, "false");
    } else if (first == 'n') {
        word(r, "null");
    } else {
        number(r);
    }
}

static int scan(const char *text, size_t size, int levels) {
    reader r = {text, text + size, 0};
    blanks(&r);
    value(&r, levels);
    if (r.error) return r.error;
    blanks(&r);
    return r.at == r.end ? WSS_OK : WSS_ERR_JSON;
}

static unsigned hex4(const char *at) {
    char four[5] = {at[0], at[1], at[2], at[3], 0};
    return (unsigned)strtoul(four, NULL, 16);
}

static void put_code(script *out, uint32_t code) {
    unsigned char b[4];
    if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
    if (code < 0x80) {
        b[0] = (unsigned char)code;
        script_bytes(out, b, 1);
    } else if (code < 0x800) {
        b[0] = (unsigned char)(0xc0 + code / 64);
        b[1] = (unsigned char)(0x80 + code % 64);
        script_bytes(out, b, 2);
    } else if (code < 0x10000) {
        b[0] = (unsigned char)(0xe0 + code / 4096);
        b[1] = (unsigned char)(0x80 + code / 64 % 64);
        b[2] = (unsigned char)(0x80 + code % 64);
        script_bytes(out, b, 3);
    } else {
        b[0] = (unsigned char)(0xf0 + code / 262144);
        b[1] = (unsigned char)(0x80 + code / 4096 % 64);
        b[2] = (unsigned char)(0x80 + code / 64 % 64);
        b[3] = (unsigned char)(0x80 + code % 64);
        script_bytes(out, b, 4);
    }
}

/* What a valid string, quotes included, holds. Ends in NUL, which is not counted. */
static script unquote(wss__span raw) {
    static const char names[] = "bfnrt\"\\/";
    static const char bytes[] = "\b\f\n\r\t\"\\/";
    script out;
    memset(&out, 0, sizeof out);
    const char *at = raw.data + 1;
    const char *end = raw.data + raw.size - 1;
    while (at < end) {
        if (*at != '\\') {
            script_bytes(&out, at++, 1);
        } else if (at[1] != 'u') {
            script_bytes(&out, bytes + (strchr(names, at[1]) - names), 1);
            at += 2;
        } else {
            uint32_t code = hex4(at + 2);
            at += 6;
            int pairs = code >= 0xd800 && code < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u';
            uint32_t low = pairs ? hex4(at + 2) : 0;
            if (low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + (code - 0xd800) * 1024 + (low - 0xdc00);
                at += 6;
            }
            put_code(&out, code);
        }
    }
    script_bytes(&out, "", 1);
    out.size--;
    return out;
}

/* The items of a valid object or array. */
typedef struct item {
    wss__span key; /* raw; none in an array */
    wss__span value;
} item;

static size_t list(wss__span text, item *out) {
    reader r = {text.data, text.data + text.size, 0};
    size_t count = 0;
    blanks(&r);
    int close = take(&r, "{") ? '}' : ']';
    if (close == ']') take(&r, "[");
    char closing[2] = {(char)close, 0};
    blanks(&r);
    while (count < MEMBERS && !take(&r, closing)) {
        memset(&out[count], 0, sizeof out[count]);
        blanks(&r);
        const char *from = r.at;
        if (close == '}') {
            string(&r);
            out[count].key = wss__base_span(from, (size_t)(r.at - from));
            blanks(&r);
            need(&r, ":");
            blanks(&r);
            from = r.at;
        }
        value(&r, 2000);
        FUZZ_CHECK(!r.error);
        out[count++].value = wss__base_span(from, (size_t)(r.at - from));
        blanks(&r);
        take(&r, ",");
    }
    return count;
}

static int same_span(wss__span a, wss__span b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static int is_key(wss__span raw, const char *name) {
    script held = unquote(raw);
    int same = script_is(&held, name, strlen(name));
    script_free(&held);
    return same;
}

static char first_of(wss__span text) {
    reader r = {text.data, text.data + text.size, 0};
    blanks(&r);
    return (char)peek(&r);
}

/* Checks. */

static void check_scan(const char *text, size_t size) {
    static const int depths[] = {0, 1, 2, 5, 64, 128, -1};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        work_done = 0;
        int result = wss__json_scan(wss__base_span(text, size), depths[i], NULL);
        FUZZ_CHECK(work_done <= 2000 + 24 * size);
        FUZZ_CHECK(result == scan(text, size, depths[i] < 0 ? WSS__JSON_DEPTH_MAX : depths[i]));
        int utf8 = reference_verdict(text, size) == REFERENCE_WHOLE;
        int checked = wss_json_check(text, size, depths[i]);
        if (depths[i]) FUZZ_CHECK(checked == (utf8 ? result : WSS_ERR_UTF8));
    }
}

/* The cutter finds the last type member and takes all of them out; what is left is what was there besides. It says the
   same when it only measures, writes elsewhere, or writes in place. */
static void check_split(const char *text, size_t size, const char *name) {
    static item members[MEMBERS];
    static item left[MEMBERS];
    wss__json_rest rest, again;
    wss__span whole = wss__base_span(text, size);
    wss__span member = wss__base_text(name);
    work_done = 0;
    int result = wss__json_without(whole, member, NULL, &rest);
    FUZZ_CHECK(work_done <= 4000 + 32 * size);
    int wanted = scan(text, size, 128);
    if (!wanted && first_of(whole) != '{') wanted = WSS_ERR_TYPE;
    FUZZ_CHECK(result == wanted);
    char *in_place = fuzz_copy(text, size);
    work_done = 0;
    FUZZ_CHECK(wss__json_without(wss__base_span(in_place, size), member, in_place, &again) == result);
    FUZZ_CHECK(work_done <= 4000 + 32 * size);
    size_t count = result ? MEMBERS : list(whole, members);
    if (count == MEMBERS) {
        free(in_place);
        return;
    }
    size_t kept = 0;
    wss__span type = wss__base_span(NULL, 0);
    for (size_t i = 0; i < count; i++) {
        if (!is_key(members[i].key, name)) members[kept++] = members[i];
        else type = members[i].value;
    }
    script held;
    memset(&held, 0, sizeof held);
    if (type.data && type.data[0] == '"') held = unquote(type);
    FUZZ_CHECK(rest.has_members == (kept > 0) && again.has_members == rest.has_members);
    FUZZ_CHECK(rest.type_size == (held.size <= 128 ? held.size : 0) && again.type_size == rest.type_size);
    FUZZ_CHECK(!rest.type_size || script_is(&held, rest.type, rest.type_size));
    FUZZ_CHECK(!again.type_size || script_is(&held, again.type, again.type_size));
    script_free(&held);
    FUZZ_CHECK(rest.size <= size && (kept < count) == (rest.size < size) && again.size == rest.size);
    char *apart = (char *)malloc(rest.size);
    if (!apart) abort();
    FUZZ_CHECK(wss__json_without(whole, member, apart, &again) == WSS_OK && again.size == rest.size);
    wss__span cut = wss__base_span(apart, rest.size);
    FUZZ_CHECK(same_span(cut, wss__base_span(in_place, rest.size)));
    FUZZ_CHECK(scan(cut.data, cut.size, 128) == WSS_OK);
    FUZZ_CHECK(list(cut, left) == kept);
    for (size_t i = 0; i < kept; i++)
        FUZZ_CHECK(same_span(left[i].key, members[i].key) && same_span(left[i].value, members[i].value));
    free(in_place);
    free(apart);
}

static void check_string(wss_args args, const char *key, wss__span raw) {
    script held = unquote(raw);
    int whole = reference_verdict(raw.data, raw.size) == REFERENCE_WHOLE;
    char *out = (char *)malloc(held.size + 1);
    size_t length = 99;
    if (!out) abort();
    int result = wss_get_string(args, key, out, held.size + 1, &length);
    FUZZ_CHECK(result == (whole ? WSS_OK : WSS_ERR_UTF8));
    if (whole) FUZZ_CHECK(script_is(&held, out, length) && out[length] == 0);
    if (whole) FUZZ_CHECK(wss_get_string(args, key, out, held.size, &length) == WSS_ERR_SPACE && length == held.size);
    free(out);
    script_free(&held);
}

/* Against strtod, of which the process's locale is C's; against strtoll where the text is plain digits. */
static void check_number(wss_args args, const char *key, wss__span raw) {
    char *text = (char *)malloc(raw.size + 1);
    double got = 1;
    int64_t integer = 7;
    if (!text) abort();
    memcpy(text, raw.data, raw.size);
    text[raw.size] = 0;
    double want = strtod(text, NULL);
    int result = wss_get_double(args, key, &got);
    FUZZ_CHECK(result == (isinf(want) ? WSS_ERR_RANGE : WSS_OK));
    if (!result) FUZZ_CHECK(memcmp(&got, &want, sizeof got) == 0);
    int plain = !strpbrk(text, ".eE");
    errno = 0;
    long long exact = strtoll(text, NULL, 10);
    int fits = plain && errno == 0;
    result = wss_get_int(args, key, &integer);
    FUZZ_CHECK(result == WSS_OK || result == WSS_ERR_RANGE);
    if (plain) FUZZ_CHECK(result == (fits ? WSS_OK : WSS_ERR_RANGE));
    if (fits) FUZZ_CHECK(integer == exact);
    if (result == WSS_OK) FUZZ_CHECK((double)integer == want || (want == 0 && integer == 0));
    /* What has a fraction is no integer. */
    int small = want > -9e15 && want < 9e15;
    if (!plain && small && want != (double)(int64_t)want) FUZZ_CHECK(result == WSS_ERR_RANGE);
    free(text);
}

static void check_value(wss_args args, const char *key, wss__span raw) {
    static const char starts[] = "?ntf-\"[{";
    wss_args found;
    int64_t integer = 0;
    double real = 0;
    int flag = 7;
    const char *start = strchr(starts, raw.data[0]);
    int type = !start ? WSS_JSON_NUMBER : raw.data[0] == 'n' ? WSS_JSON_NULL : raw.data[0] == '-' ? WSS_JSON_NUMBER
               : raw.data[0] == '"' ? WSS_JSON_STRING : raw.data[0] == '[' ? WSS_JSON_ARRAY
               : raw.data[0] == '{' ? WSS_JSON_OBJECT : WSS_JSON_BOOL;
    FUZZ_CHECK(wss_json_type(args, key) == type);
    FUZZ_CHECK(wss_get_raw(args, key, &found) == WSS_OK);
    FUZZ_CHECK(same_span(raw, wss__base_span(found.text, found.length)));
    FUZZ_CHECK(wss_get_bool(args, key, &flag) == (type == WSS_JSON_BOOL ? WSS_OK : WSS_ERR_TYPE));
    if (type == WSS_JSON_BOOL) FUZZ_CHECK(flag == (raw.data[0] == 't'));
    if (type == WSS_JSON_STRING) check_string(args, key, raw);
    else FUZZ_CHECK(wss_get_string(args, key, NULL, 0, NULL) == WSS_ERR_TYPE);
    if (type == WSS_JSON_NUMBER) check_number(args, key, raw);
    else FUZZ_CHECK(wss_get_int(args, key, &integer) == WSS_ERR_TYPE);
    if (type != WSS_JSON_NUMBER) FUZZ_CHECK(wss_get_double(args, key, &real) == WSS_ERR_TYPE);
}

/* Each member by its name, the last of a name; and all by iteration. */
static void check_members(wss_args args) {
    static item members[MEMBERS];
    wss__span text = wss__base_span(args.text, args.length);
    size_t count = list(text, members);
    wss_iterator i = wss_iterate(args);
    size_t at = 0;
    while (wss_iterate_next(&i)) {
        FUZZ_CHECK(at < count || count == MEMBERS);
        if (at == MEMBERS) return;
        FUZZ_CHECK(same_span(members[at].key, wss__base_span(i.key.text, i.key.length)));
        FUZZ_CHECK(same_span(members[at].value, wss__base_span(i.value.text, i.value.length)));
        at++;
    }
    FUZZ_CHECK(i.value.error == WSS_OK && at == count);
    for (size_t k = 0; k < count && k < 12 && members[k].key.data; k++) {
        script name = unquote(members[k].key);
        size_t last = k;
        if (strlen(name.data) == name.size) {
            for (size_t j = k; j < count; j++)
                if (is_key(members[j].key, name.data)) last = j;
            check_value(args, name.data, members[last].value);
        }
        script_free(&name);
    }
}

/* Writer: what is read is written, member by member, and means the same. */

static void write_item(wss_writer *w, const char *key, wss__span raw, int level) {
    wss_args args;
    script held;
    int64_t integer;
    double real;
    memset(&args, 0, sizeof args);
    args.text = raw.data;
    args.length = raw.size;
    switch (raw.data[0]) {
    case '"':
        held = unquote(raw);
        wss_put_text(w, key, held.data, held.size);
        script_free(&held);
        return;
    case 't':
    case 'f': wss_put_bool(w, key, raw.data[0] == 't'); return;
    case 'n': wss_put_null(w, key); return;
    case '{':
    case '[': break;
    default:
        if (wss_get_int(args, NULL, &integer) == WSS_OK) wss_put_int(w, key, integer);
        else if (wss_get_double(args, NULL, &real) == WSS_OK) wss_put_double(w, key, real);
        else wss_put_raw(w, key, args);
        return;
    }
    if (level == 4) {
        wss_put_raw(w, key, args);
        return;
    }
    item *items_of = (item *)malloc(MEMBERS * sizeof *items_of);
    if (!items_of) abort();
    size_t count = list(raw, items_of);
    if (raw.data[0] == '{') wss_put_object(w, key);
    else wss_put_array(w, key);
    for (size_t i = 0; i < count && i < 20; i++) {
        memset(&held, 0, sizeof held);
        if (items_of[i].key.data) held = unquote(items_of[i].key);
        write_item(w, held.data, items_of[i].value, level + 1);
        script_free(&held);
    }
    wss_put_end(w);
    free(items_of);
}

static void check_writer(wss__span text, size_t room) {
    wss_writer growing;
    wss_writer fixed;
    reader r = {text.data, text.data + text.size, 0};
    blanks(&r);
    text = wss__base_span(r.at, (size_t)(r.end - r.at));
    while (text.size && strchr(" \t\r\n", text.data[text.size - 1])) text.size--;
    wss_writer_init(&growing, NULL, 0);
    write_item(&growing, "all", text, 0);
    wss_args written = wss_writer_args(&growing);
    FUZZ_CHECK(written.error == WSS_OK || written.error == WSS_ERR_DEPTH);
    char *buffer = (char *)malloc(room ? room : 1);
    if (!buffer) abort();
    wss_writer_init(&fixed, buffer, room);
    write_item(&fixed, "all", text, 0);
    wss_args again = wss_writer_args(&fixed);
    if (!written.error) {
        FUZZ_CHECK(scan(written.text, written.length, WSS__JSON_DEPTH_MAX) == WSS_OK);
        FUZZ_CHECK(wss_json_check(written.text, written.length, -1) == WSS_OK && written.text[written.length] == 0);
        check_members(written);
        FUZZ_CHECK(again.error == (written.length < room ? WSS_OK : WSS_ERR_SPACE));
        if (!again.error) FUZZ_CHECK(strcmp(again.text, written.text) == 0);
    }
    wss_writer_free(&growing);
    wss_writer_free(&fixed);
    free(buffer);
}

/* Any bytes as the value of a string: escaped, and read back. */
static void check_escape(const char *text, size_t size) {
    wss__span span = wss__base_span(text, size);
    size_t quoted = wss__json_escaped_size(span);
    char *out = (char *)malloc(quoted);
    if (!out) abort();
    FUZZ_CHECK(wss__json_quote(span, out) == out + quoted);
    FUZZ_CHECK(scan(out, quoted, 0) == WSS_OK);
    FUZZ_CHECK(wss__json_scan(wss__base_span(out, quoted), 0, NULL) == WSS_OK);
    script back = unquote(wss__base_span(out, quoted));
    FUZZ_CHECK(script_is(&back, text, size));
    free(out);
    script_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[4] = {"type", "__MESSAGE__", "", "a"};
    fuzz_input in = fuzz_begin(data, size);
    unsigned choice = fuzz_byte(&in);
    size_t room = 16 * (size_t)(choice >> 2);
    char *text = fuzz_copy(in.at, in.left);
    size_t length = in.left;
    check_scan(text, length);
    check_split(text, length, names[choice & 3]);
    check_escape(text, length);
    wss_args args;
    memset(&args, 0, sizeof args);
    args.text = text;
    args.length = length;
    if (scan(text, length, WSS__JSON_DEPTH_MAX) == WSS_OK) {
        char first = first_of(wss__base_span(text, length));
        if (first == '{' || first == '[') check_members(args);
        if (reference_verdict(text, length) == REFERENCE_WHOLE) check_writer(wss__base_span(text, length), room);
    } else {
        double real;
        wss_iterator i = wss_iterate(args);
        for (size_t k = 0; wss_iterate_next(&i); k++) FUZZ_CHECK(k <= length);
        FUZZ_CHECK(i.value.error != WSS_OK);
        FUZZ_CHECK(wss_json_type(args, "a") < 0 && wss_get_double(args, NULL, &real) < 0);
    }
    free(text);
    return 0;
}
