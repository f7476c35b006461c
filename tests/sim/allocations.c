/* Every allocation of every scene fails: each one alone, each and all behind it, and the large ones alone. No bystander may
   notice, nothing may be left, and what follows works again. */
#include "scenarios.h"

static long points, failed;

static long run_point(const scene *it, long number, int on, size_t above) {
    snprintf(stage_label, sizeof stage_label, "%s: allocation %ld%s%s", it->name, number, on ? " and all behind it" : "",
             above ? " of the large ones" : "");
    scene_begin(it, 1);
    stage.fail_at = number;
    stage.fail_on = on;
    stage.fail_above = above;
    scene_run();
    points += number != 0;
    failed += number != 0 && stage.failed > 0;
    if (number && stage.failed == 0) stage_violated("the allocation did not fail");
    return stage.grown;
}

static void sweep(size_t above) {
    for (int i = 0; i < SCENES; i++) {
        long made = run_point(&scenes[i], 0, 0, above);
        for (long number = 1; number <= made; number++) {
            run_point(&scenes[i], number, 0, above);
            run_point(&scenes[i], number, 1, above);
        }
    }
}

static void test_each_allocation_fails(void) {
    sweep(0);
}

static void test_large_allocations_fail(void) {
    sweep(4096);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < STAGE_BIG; i++) stage_big[i] = (char)(i * 7 % 251);
    RUN(test_each_allocation_fails);
    RUN(test_large_allocations_fail);
    printf("allocations: %d scenarios, %ld points, %ld with failures\n", SCENES, points, failed);
    if (points < 2000) test_failed++;
    return test_end("allocations");
}
