/* The parts of the load generator: load_options.c reads the command line, load_answer.c one HTTP answer, load_report.c
 * keeps the figures and prints them, load_generator.c runs the connections. */
#ifndef BENCH_LOAD_GENERATOR_H
#define BENCH_LOAD_GENERATOR_H

#include "http_wire.h"

#include <netinet/in.h>

typedef struct {
    const char *url, *body_file;
    Buffer headers; /* each ended by CR LF */
    int connections, min_events;
    long requests, warmup; /* requests -1: no limit */
    double seconds, ramp_seconds, timeout_seconds; /* seconds 0: no limit */
    double rate; /* requests a second; 0: as soon as a connection is free */
    int stream, once;
} Options;

extern Options options;

/* Ends the program with a message when the command line is wrong. */
void read_options(int count, char **arguments);

/* The bytes every connection sends, and where to. */
void build_request(Buffer *request, struct sockaddr_in *address);

/* What became of a request. */
typedef enum {
    GOOD,
    CONNECT_FAILED,
    BAD_STATUS,
    RESET,
    INCOMPLETE, /* the body, or a stream's [DONE], never came */
    TIMED_OUT,
    FEW_EVENTS, /* a stream with fewer content events than --min-events */
    OUTCOMES
} Outcome;

typedef struct {
    bool wants_stream;
    Buffer head;
    bool head_complete, chunked, closes;
    int status;
    long content_length; /* -1: until the connection closes */
    size_t received; /* body bytes */
    ChunkDecoder chunks;
    Buffer events; /* the stream's bytes since the last whole line */
    bool done; /* [DONE] was seen */
    int content_events;
    int64_t first_byte_us, first_content_us; /* 0 until then */
    char error_start[300]; /* of a body that came with another status than 200 */
    size_t error_length;
} Answer;

/* Makes ready for the next answer, keeping the buffers. */
void answer_reset(Answer *answer, bool wants_stream);

/* Reads what arrived. Returns true once the answer is complete. */
bool answer_feed(Answer *answer, const char *bytes, size_t length);

/* The server closed the connection. Returns true when that is how this answer ends. */
bool answer_closed(const Answer *answer);

typedef struct {
    int connections;
    double elapsed_seconds;
    int max_open_streams;
} RunSummary;

/* `sampled`: whether the latencies count too. */
void record_good(int64_t first_content_us, int64_t total_us, bool sampled);
void record_failure(Outcome outcome, const char *error_start);
void record_status(int status);
void print_report(const RunSummary *run);

#endif
