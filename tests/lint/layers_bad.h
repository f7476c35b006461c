/* Breaks each rule of layers.awk once. tests/lint/run.sh checks that each is found. Never compiled. */
#define WSSERVER_IMPLEMENTATION_INCLUDED
/* ---- [low] ------------------------------------------------------------------------------------------------
   purpose  the room below
   knows    nothing */

typedef struct wss__box {
    int value;
} wss__box;

enum { WSS__LOW_SIZE = 1, WSS__TALL_SIZE = 2 }; /* a constant without its room's name */

#define WSS__LOW_MAKE(name) WSS__LOW_RULE_##name,
enum { WSS__LOW_MAKE(ONE) WSS__LOW_MAKE(TWO) };

static int wss__low_get(const wss__box *box) {
    return box->value;
}

static int wss__tall_get(void) { /* a function without its room's name */
    return WSS__LOW_SIZE;
}

/* ---- [middle] ---------------------------------------------------------------------------------------------
   purpose  may not see low; wss__low_get in a comment and "wss__low_get" in a string are no uses
   knows    upper,
            nowhere
   owns     nothing */

static int wss__middle_ahead(int value);

static int wss__middle_one(wss__box *box) {
    const char *text = "wss__low_get";
    if (box->read(text)) return wss__low_get(box);
    read(0, box, 1);
    free(box);
    box->value = WSS__LOW_RULE_ONE; /* pasted, but of a room that this one does not know */
    goto end;
end:
    return 0;
}

/* ---- [upper] ----------------------------------------------------------------------------------------------
   purpose  breaks nothing
   knows    low, middle */

static int wss__upper_one(wss__box *box) {
    return wss__low_get(box) + wss__middle_one(box) + WSS__LOW_SIZE + WSS__LOW_RULE_TWO;
}
