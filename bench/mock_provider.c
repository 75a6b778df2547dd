/* A mock of an OpenAI-compatible provider that costs far less CPU than any gateway in front of it: one thread, epoll,
 * answers built beforehand. Python could not play this part, it would be slower than what it is there to measure.
 *
 *   mock_provider [--port 18080]        0 takes any free port; the first line of output says which
 *
 *   POST .../chat/completions   "stream":true: a stream, else a fixed answer of about 1 KB
 *   POST .../embeddings         1536 floats, base64 when asked for
 *   GET  .../models             a short list
 *   GET  /__stats               what was asked so far, as JSON; max_open_streams starts again with each reading
 *
 * A stream is: role chunk, 64 content chunks, finish chunk, usage chunk, [DONE]. Each content chunk is its own write and
 * its own HTTP chunk, as providers send them. The model name sets the pace (see mock_request.c). */
#define _GNU_SOURCE
#include "mock_provider.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 65536, EVENTS_AT_ONCE = 512, READ_SIZE = 8192 };

static Connection *connections[MAX_CONNECTIONS]; /* by file descriptor */
static uint64_t last_answer_id;

static void finish_answer(Connection *c)
{
    c->phase = READING;
    stats.finished++;
    if (c->request.closes && !c->output.length) /* else the client closes once it has the rest */
        close_connection(c);
}

static void answer_stats(Connection *c)
{
    char body[400];
    snprintf(body, sizeof body,
             "{\"requests\":%" PRIu64 ",\"chat\":%" PRIu64 ",\"streams\":%" PRIu64 ",\"embeddings\":%" PRIu64
             ",\"finished\":%" PRIu64 ",\"aborted\":%" PRIu64
             ",\"open_streams\":%d,\"max_open_streams\":%d,\"connections\":%d}",
             stats.requests, stats.chats, stats.streams, stats.embeddings, stats.finished, stats.aborted,
             stats.open_streams, stats.max_open_streams, stats.connections);
    stats.max_open_streams = stats.open_streams;
    Answer answer = make_json_answer(body);
    if (send_answer(c, &answer))
        finish_answer(c);
    free(answer.bytes);
}

/* Sends content chunks up to the next pause; after the last one, the end of the stream. */
static void continue_stream(Connection *c)
{
    const StreamAnswer *stream = stream_answer();
    stamp_id(&stream->content, c->answer_id);
    while (c->chunks_sent < c->request.content_chunks) {
        c->chunks_sent++;
        if (!send_answer(c, &stream->content))
            return;
        if (c->request.interval_ms > 0) {
            c->due_us += c->request.interval_ms * 1000;
            push_timer(c);
            return;
        }
    }
    stamp_id(&stream->finish, c->answer_id);
    stamp_id(&stream->end, c->answer_id);
    if (!send_answer(c, &stream->finish) || !send_answer(c, &stream->end))
        return;
    stats.open_streams--;
    finish_answer(c);
}

static void start_stream(Connection *c)
{
    const StreamAnswer *stream = stream_answer();
    c->phase = STREAMING;
    c->chunks_sent = 0;
    stamp_id(&stream->role, c->answer_id);
    if (send_answer(c, &stream->head) && send_answer(c, &stream->role))
        continue_stream(c);
}

/* The answer, or its next part, is due. */
static void answer_now(Connection *c)
{
    if (c->phase == STREAMING)
        continue_stream(c);
    else if (c->request.kind == CHAT_STREAM)
        start_stream(c);
    else if (c->request.kind == STATS)
        answer_stats(c);
    else if (send_answer(c, fixed_answer(c->request.kind, c->answer_id)))
        finish_answer(c);
}

static void count_request(const Request *request)
{
    stats.requests++;
    stats.chats += request->kind == CHAT;
    stats.embeddings += request->kind == EMBEDDING_FLOATS || request->kind == EMBEDDING_BASE64;
    if (request->kind != CHAT_STREAM)
        return;
    stats.streams++;
    if (++stats.open_streams > stats.max_open_streams)
        stats.max_open_streams = stats.open_streams;
}

static void serve_input(Connection *c)
{
    while (c->open && c->phase == READING && c->input.length) {
        size_t taken = parse_request(&c->input, &c->request);
        if (!taken)
            return;
        buffer_drop_front(&c->input, taken);
        count_request(&c->request);
        c->phase = WAITING;
        c->answer_id = ++last_answer_id;
        c->due_us = now_us() + c->request.first_byte_ms * 1000;
        if (c->request.first_byte_ms > 0)
            push_timer(c);
        else
            answer_now(c);
    }
}

static void read_input(Connection *c)
{
    for (;;) {
        buffer_reserve(&c->input, READ_SIZE);
        ssize_t received = read(c->fd, c->input.bytes + c->input.length, READ_SIZE);
        if (received == 0 || (received < 0 && errno != EAGAIN)) {
            close_connection(c);
            return;
        }
        if (received > 0)
            c->input.length += received;
        c->input.bytes[c->input.length] = '\0';
        if (received < READ_SIZE)
            break;
    }
    serve_input(c);
}

static void accept_connections(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (fd >= MAX_CONNECTIONS) {
            close(fd);
            continue;
        }
        disable_nagle(fd);
        if (!connections[fd])
            connections[fd] = calloc(1, sizeof(Connection));
        Connection *c = connections[fd];
        if (!c)
            abort();
        c->fd = fd;
        c->open = true;
        stats.connections++;
        watch_connection(c, EPOLL_CTL_ADD, false);
    }
}

static void fire_timers(void)
{
    int64_t now = now_us();
    Timer timer;
    while (pop_due_timer(now, &timer)) {
        Connection *c = connections[timer.fd];
        if (!c->open || c->generation != timer.generation || c->phase == READING)
            continue;
        answer_now(c);
        serve_input(c);
    }
}

static void handle_event(const struct epoll_event *event)
{
    Connection *c = connections[event->data.fd];
    if (c->open && (event->events & EPOLLOUT) && !flush_output(c))
        return;
    if (c->open && (event->events & ~(uint32_t)EPOLLOUT))
        read_input(c);
}

static int listen_on(int port)
{
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 8192)) {
        perror("mock_provider: listen");
        exit(1);
    }
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **arguments)
{
    int port = 18080;
    if (count == 3 && !strcmp(arguments[1], "--port"))
        port = atoi(arguments[2]);
    else if (count != 1) {
        fprintf(stderr, "usage: mock_provider [--port 18080]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    build_answers();
    int listener = listen_on(port);
    poller = epoll_create1(0);
    struct epoll_event events[EVENTS_AT_ONCE] = {{EPOLLIN, {.fd = listener}}};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &events[0]);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_AT_ONCE, milliseconds_to_next_timer());
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_connections(listener);
            else
                handle_event(&events[i]);
        }
        fire_timers();
    }
}
