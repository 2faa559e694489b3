/* What two other ways to match header rules cost: a linear scan, and one bit vector per field and class, ANDed over all rules.
 *
 * Synthetic: five fields; for the vectors every field narrows a fifth of the rules and as many classes as rules (at most
 * 10,000); for the scan rules of one prefix and one port. Looked up with random packets. Arguments: numbers of rules.
 * Output: a JSON object a line with nanoseconds a packet and bytes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { FIELDS = 5, MOST_CLASSES = 10000, WORK = 200000000 };

struct rule {
    uint32_t source, source_mask, target, target_mask;
    uint16_t sport_low, sport_high, dport_low, dport_high;
    uint32_t protocol, spare;
};

static uint32_t state = 1;
static volatile uint64_t kept;

static uint32_t draw(void) { return state = state * 1664525u + 1013904223u; }

static double clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static double vectors(int rules, int classes, int words)
{
    uint64_t *field[FIELDS], found = 0;
    int turns = WORK / (words * 20 + 100), f, c, i, turn;
    double begin;
    for (f = 0; f < FIELDS; f++) {
        field[f] = malloc((size_t)classes * words * 8);
        for (c = 0; c < classes; c++)
            for (i = 0; i < words; i++)
                field[f][(size_t)c * words + i] = i % FIELDS == f ? 0 : ~0ull;
    }
    begin = clock_ns();
    for (turn = 0; turn < turns; turn++) {
        const uint64_t *row[FIELDS];
        for (f = 0; f < FIELDS; f++)
            row[f] = field[f] + (size_t)((draw() >> 8) % classes) * words;
        for (i = 0; i < words; i++)
            found += (row[0][i] & row[1][i] & row[2][i] & row[3][i] & row[4][i]) != 0;
    }
    kept += found;
    begin = (clock_ns() - begin) / turns;
    for (f = 0; f < FIELDS; f++)
        free(field[f]);
    return begin;
}

static double scan(int rules)
{
    struct rule *all = calloc(rules, sizeof *all);
    uint64_t found = 0;
    int turns = WORK / (rules + 10) + 1, i, turn;
    double begin;
    for (i = 0; i < rules; i++) {
        all[i].source = draw() & 0xffffff00u;
        all[i].source_mask = 0xffffff00u;
        all[i].sport_high = 65535;
        all[i].dport_low = all[i].dport_high = draw() >> 16;
    }
    begin = clock_ns();
    for (turn = 0; turn < turns; turn++) {
        uint32_t source = draw(), target = draw();
        uint16_t sport = draw() >> 16, dport = draw() >> 16;
        for (i = 0; i < rules; i++)
            found += (source & all[i].source_mask) == all[i].source && (target & all[i].target_mask) == all[i].target
                && sport >= all[i].sport_low && sport <= all[i].sport_high
                && dport >= all[i].dport_low && dport <= all[i].dport_high;
    }
    kept += found;
    begin = (clock_ns() - begin) / turns;
    free(all);
    return begin;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int rules = atoi(argv[i]), words = (rules + 63) / 64, classes = rules < MOST_CLASSES ? rules : MOST_CLASSES;
        printf("{\"rules\": %d, \"vectors_ns\": %.0f, \"vectors_bytes\": %.0f, \"scan_ns\": %.0f}\n", rules,
               vectors(rules, classes, words), 8.0 * FIELDS * classes * words, scan(rules));
    }
    return 0;
}
