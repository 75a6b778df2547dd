/* The load generator's figures: counts, latencies, and one line of JSON at the end. */
#define _GNU_SOURCE
#include "load_generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { STATUSES = 600 };

typedef struct {
    uint32_t *values_us;
    long count, capacity;
} Samples;

static const char *outcome_names[OUTCOMES] = {"good",       "connect",   "status",    "reset",
                                              "incomplete", "timed_out", "few_events"};
static Samples first_content, total;
static long outcomes[OUTCOMES], statuses[STATUSES];
static char error_sample[300];

static void add_sample(Samples *samples, int64_t value_us)
{
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? samples->capacity * 2 : 65536;
        samples->values_us = realloc(samples->values_us, samples->capacity * sizeof *samples->values_us);
        if (!samples->values_us)
            abort();
    }
    samples->values_us[samples->count++] = (uint32_t)value_us;
}

void record_good(int64_t first_content_us, int64_t total_us, bool sampled)
{
    outcomes[GOOD]++;
    if (!sampled)
        return;
    add_sample(&first_content, first_content_us);
    add_sample(&total, total_us);
}

void record_failure(Outcome outcome, const char *error_start)
{
    outcomes[outcome]++;
    if (!error_sample[0])
        snprintf(error_sample, sizeof error_sample, "%s", error_start);
}

void record_status(int status)
{
    if (status >= 0 && status < STATUSES)
        statuses[status]++;
}

static int compare(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static double quantile_ms(const Samples *samples, double quantile)
{
    return samples->values_us[(long)(quantile * (samples->count - 1) + 0.5)] / 1000.0;
}

static void print_latency(const char *name, Samples *samples)
{
    if (!samples->count) {
        printf(",\"%s\":null", name);
        return;
    }
    qsort(samples->values_us, samples->count, sizeof *samples->values_us, compare);
    printf(",\"%s\":{\"p50\":%.4f,\"p95\":%.4f,\"p99\":%.4f,\"max\":%.4f}", name, quantile_ms(samples, .5),
           quantile_ms(samples, .95), quantile_ms(samples, .99), quantile_ms(samples, 1));
}

static void print_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char byte = *text;
        if (byte == '"' || byte == '\\')
            putchar('\\');
        putchar(byte < 32 || byte > 126 ? ' ' : byte); /* the sample may end inside a UTF-8 character */
    }
    putchar('"');
}

static void print_counts(void)
{
    const char *separator = "";
    printf("\"failures\":{");
    for (int i = GOOD + 1; i < OUTCOMES; i++, separator = ",")
        printf("%s\"%s\":%ld", separator, outcome_names[i], outcomes[i]);
    separator = "";
    printf("},\"codes\":{");
    for (int i = 0; i < STATUSES; i++) {
        if (!statuses[i])
            continue;
        printf("%s\"%d\":%ld", separator, i, statuses[i]);
        separator = ",";
    }
    printf("}");
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void print_report(const RunSummary *run)
{
    long errors = 0;
    for (int i = GOOD + 1; i < OUTCOMES; i++)
        errors += outcomes[i];
    printf("{\"connections\":%d,\"ok\":%ld,\"errors\":%ld,", run->connections, outcomes[GOOD], errors);
    print_counts();
    printf(",\"elapsed_seconds\":%.3f,\"rps\":%.2f,\"client_cpu_seconds\":%.3f,\"max_open_streams\":%d",
           run->elapsed_seconds, outcomes[GOOD] / run->elapsed_seconds, cpu_seconds(), run->max_open_streams);
    print_latency("ttfc_ms", &first_content);
    print_latency("total_ms", &total);
    printf(",\"error_sample\":");
    print_text(error_sample);
    printf("}\n");
}
