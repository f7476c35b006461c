/* One fault for each sanitizer of 35-sanitizers.sh, chosen by the argument: each must end the program. Without an argument
   there is none. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile size_t hidden = 200; /* what the compiler may not look through */
static char *volatile block;

static int wrap(void) {
    size_t size = hidden;
    return size - 201 > 5; /* the size is 200 */
}

static int truncate(void) {
    uint8_t byte = (uint8_t)hidden;
    int8_t sign = byte; /* implicit */
    return sign < 0;
}

static int uninitialized(void) {
    char *text = block = (char *)malloc(hidden);
    if (!text) return 0;
    if (block[hidden / 2] == 'x') hidden++;
    free(text);
    return 0;
}

static int beyond(void) {
    char *text = block = (char *)malloc(hidden);
    if (!text) return 0;
    memset(text, 0, hidden + 1);
    int result = puts(text);
    free(text);
    return result;
}

int main(int count, char **words) {
    const char *fault = count > 1 ? words[1] : "";
    if (strcmp(fault, "wrap") == 0) return wrap() ? 0 : 1;
    if (strcmp(fault, "truncate") == 0) return truncate() ? 0 : 1;
    if (strcmp(fault, "uninitialized") == 0) return uninitialized() < 0;
    if (strcmp(fault, "beyond") == 0) return beyond() < 0;
    return 0;
}
