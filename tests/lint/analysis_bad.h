/* analysis_bad.h: faults put in on purpose, which analysis.sh must find. Each tool finds those that bear its name in a
   comment, as the check that reports them. Nothing includes this file. */
#include <stdlib.h>
#include <string.h>

/* gcc: -Wanalyzer-use-after-free */
char bad_last(char *text) {
    free(text);
    return text[0];
}

/* gcc: -Wanalyzer-null-dereference */
int bad_first(const int *list, int count) {
    const int *at = count > 3 ? list : NULL;
    return *at;
}

/* cppcheck: arrayIndexOutOfBounds */
int bad_place(void) {
    int places[4] = {0, 0, 0, 0};
    return places[4];
}

/* cppcheck: uninitvar */
int bad_sum(int count) {
    int sum;
    while (count-- > 0) sum += count;
    return sum;
}

/* clang-tidy: bugprone-narrowing-conversions */
int bad_half(double value) {
    int half = value / 2;
    return half;
}

/* clang-tidy: cert-err34-c */
int bad_number(const char *text) {
    return atoi(text);
}

/* clang-tidy: concurrency-mt-unsafe */
char *bad_word(char *text) {
    return strtok(text, " ");
}
