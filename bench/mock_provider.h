/* The parts of the mock provider: mock_request.c reads what is asked, mock_answers.c holds what is answered,
 * mock_connection.c writes and waits, mock_provider.c is the server. */
#ifndef BENCH_MOCK_PROVIDER_H
#define BENCH_MOCK_PROVIDER_H

#include "http_wire.h"

typedef enum { CHAT, CHAT_STREAM, EMBEDDING_FLOATS, EMBEDDING_BASE64, MODELS, STATS, ANYTHING_ELSE } AnswerKind;

typedef struct {
    AnswerKind kind;
    bool closes; /* the client asked to close the connection after the answer */
    long first_byte_ms, interval_ms;
    int content_chunks;
} Request;

/* Reads one request from the front of the input. Returns the bytes it takes, or 0 while it is incomplete. */
size_t parse_request(const Buffer *input, Request *request);

/* Bytes ready to be written. Every chat answer carries an id of its own, because a gateway may tell answers apart
 * by it: `id_digits` points at the place inside `bytes`, or is NULL. */
typedef struct {
    char *bytes;
    size_t length;
    char *id_digits;
} Answer;

typedef struct {
    Answer head, role, content, finish, end;
} StreamAnswer;

void build_answers(void);
const Answer *fixed_answer(AnswerKind kind, uint64_t id);
const StreamAnswer *stream_answer(void);
void stamp_id(const Answer *answer, uint64_t id);

/* A whole 200 answer with this JSON body; the caller frees `bytes`. */
Answer make_json_answer(const char *body);

typedef enum { READING, WAITING, STREAMING } Phase;

typedef struct {
    int fd;
    bool open, waits_to_write;
    uint32_t generation; /* a timer of an earlier connection on the same fd must not fire for this one */
    Phase phase;
    Buffer input, output;
    Request request;
    uint64_t answer_id;
    int chunks_sent;
    int64_t due_us;
} Connection;

typedef struct {
    int64_t due_us;
    int fd;
    uint32_t generation;
} Timer;

typedef struct {
    uint64_t requests, chats, streams, embeddings, finished, aborted;
    int open_streams, max_open_streams, connections;
} Stats;

extern Stats stats;
extern int poller; /* the epoll instance */

void watch_connection(Connection *c, int operation, bool writable);
void close_connection(Connection *c);

/* Both return false when the connection broke, and then it is closed. What the socket does not take now is kept. */
bool flush_output(Connection *c);
bool send_answer(Connection *c, const Answer *answer);

/* Wakes the connection at its `due_us`. */
void push_timer(const Connection *c);
bool pop_due_timer(int64_t now, Timer *timer);
int milliseconds_to_next_timer(void); /* -1: there is none */

#endif
