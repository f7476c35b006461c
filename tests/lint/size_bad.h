/* Not compiled: each of its rooms breaks a rule of size.awk in its way, and one of its lines. */
/* ---- [calm] as it should be ---- */
static int one(void) { return 1; }
/* ---- [grown] past its ceiling ---- */

static int two(void) { /* a comment and the blank line above are no code */
    return 2;
}
/* ---- [shrunk] below its ceiling ---- */
static int three(void) { return 3; }
/* ---- [risen] without a reason ---- */
static int four(void) { return 4; }
/* ---- [fewer] than ever ---- */
static int five(void) { return 5; }
/* ---- [new] without a ceiling ---- */
static int six(void) { return 6; } /* and this line of code is so long that nobody should have to read it in one go, 121 */
