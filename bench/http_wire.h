/* What the mock provider and the load generator share: a growing buffer, the clock, and the two parts of HTTP/1.1
 * both must read, header lines and chunked bodies. */
#ifndef BENCH_HTTP_WIRE_H
#define BENCH_HTTP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *bytes; /* always followed by a NUL, so that text functions stop */
    size_t length, capacity;
} Buffer;

void buffer_reserve(Buffer *buffer, size_t extra);
void buffer_append(Buffer *buffer, const char *bytes, size_t length);
void buffer_drop_front(Buffer *buffer, size_t length);

/* Monotonic time in microseconds. */
int64_t now_us(void);

/* Allows as many open sockets as the machine permits: held streams need thousands. */
void raise_file_limit(void);

/* Sends small writes at once: a delayed chunk would be measured as the gateway's latency. */
void disable_nagle(int fd);

/* Length of the HTTP head, its blank line included; 0 while it is incomplete. */
size_t find_head_length(const char *bytes, size_t length);

/* The value of a header (any case), ended by CR LF, or NULL. */
const char *find_header(const char *head, size_t head_length, const char *name);

bool header_starts_with(const char *head, size_t head_length, const char *name, const char *value);

typedef enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER, CHUNKS_COMPLETE } ChunkPhase;

typedef struct {
    ChunkPhase phase;
    size_t left; /* bytes of the current chunk still to come */
    size_t line_length;
    char line[24]; /* the chunk's size in hexadecimal; extensions beyond this are ignored */
} ChunkDecoder;

typedef void (*BodySink)(void *context, const char *bytes, size_t length);

/* Reads a chunked body piece by piece; each run of body bytes goes to the sink. Returns how many bytes it took:
 * fewer than given only once the phase is CHUNKS_COMPLETE. */
size_t chunks_feed(ChunkDecoder *decoder, const char *bytes, size_t length, BodySink sink, void *context);

#endif
