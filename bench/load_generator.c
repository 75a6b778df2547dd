/* A load generator for JSON and server-sent event answers: one thread, epoll, so that it costs far less CPU than the
 * gateway it loads. Each connection sends its next request when the answer to the last one is complete (closed loop), or,
 * with --rate, at set times: a request that finds no connection free waits, and its wait counts (open loop).
 *
 *   load_generator --url http://127.0.0.1:5005/v1/chat/completions --body request.json [--header 'Name: value']...
 *     --connections 8     how many at once
 *     --rate R            requests a second, all connections together
 *     --requests N        end after N requests, all connections together
 *     --seconds S         start no request after S seconds
 *     --stream            the answer is a stream: it must end with [DONE]
 *     --min-events N      and carry at least N content events
 *     --warmup K          leave the first K requests out of the latencies
 *     --once              one request per connection (for held streams)
 *     --ramp-seconds S    spread the connections' first requests over S seconds
 *     --timeout-seconds S for a whole answer
 *
 * Prints one line of JSON. ttfc is the time to the first content: a stream's first content event, else the first byte. */
#define _GNU_SOURCE
#include "load_generator.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 512, SCAN_INTERVAL_MS = 5, RETRY_US = 10000, READ_SIZE = 262144 };

typedef enum { PAUSED, CONNECTING, SENDING, RECEIVING, ENDED } State;

typedef struct {
    int fd; /* -1: not connected */
    State state;
    bool waits_to_write;
    size_t sent;
    int64_t starts_at_us, started_us;
    long answers; /* on this socket: a server may close one that has been used before */
    Answer answer;
} Connection;

static struct sockaddr_in address;
static Buffer request;
static int poller, live_connections, open_streams, max_open_streams;
static long started, finished;
static int64_t run_started_us;
static Connection *connections;
static int ticker = -1; /* with --rate: a timer that fires for each request */
static long due;        /* how many requests should have begun by now */

static bool may_start(void)
{
    if (options.requests >= 0 && started >= options.requests)
        return false;
    return options.seconds <= 0 || now_us() - run_started_us < options.seconds * 1e6;
}

static void disconnect(Connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->answers = 0;
}

static void end_connection(Connection *c)
{
    disconnect(c);
    c->state = ENDED;
    live_connections--;
}

static Outcome judge(const Answer *answer)
{
    if (answer->status != 200)
        return BAD_STATUS;
    if (answer->wants_stream && !answer->done)
        return INCOMPLETE;
    return answer->wants_stream && answer->content_events < options.min_events ? FEW_EVENTS : GOOD;
}

static void start_request(Connection *c);
static void start_due(void);

/* Books the request and, unless the run is over, starts the connection's next. */
static void finish_request(Connection *c, Outcome outcome)
{
    const Answer *answer = &c->answer;
    int64_t now = now_us();
    finished++;
    if (answer->wants_stream && answer->first_content_us)
        open_streams--;
    if (outcome != GOOD) {
        record_failure(outcome, answer->error_start);
        disconnect(c);
    } else {
        int64_t first = answer->first_content_us ? answer->first_content_us : answer->first_byte_us;
        record_good(first - c->started_us, now - c->started_us, finished > options.warmup);
    }
    if (answer->closes)
        disconnect(c);
    if (options.once || !may_start()) {
        end_connection(c);
    } else if (options.rate) {
        c->state = PAUSED;
        start_due();
    } else if (outcome == GOOD) {
        start_request(c);
    } else { /* a gateway that refuses everything must not turn this into a busy loop */
        c->state = PAUSED;
        c->starts_at_us = now + RETRY_US;
    }
}

static void watch(Connection *c, int operation, bool writable)
{
    struct epoll_event event = {EPOLLIN | (writable ? EPOLLOUT : 0), {.ptr = c}};
    epoll_ctl(poller, operation, c->fd, &event);
    c->waits_to_write = writable;
}

static void send_request(Connection *c)
{
    c->state = SENDING;
    while (c->sent < request.length) {
        ssize_t written = write(c->fd, request.bytes + c->sent, request.length - c->sent);
        if (written < 0 && errno == EAGAIN) {
            if (!c->waits_to_write)
                watch(c, EPOLL_CTL_MOD, true);
            return;
        }
        if (written < 0) {
            finish_request(c, RESET);
            return;
        }
        c->sent += written;
    }
    if (c->waits_to_write)
        watch(c, EPOLL_CTL_MOD, false);
    c->state = RECEIVING;
}

static void connect_and_send(Connection *c)
{
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0 || (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)) {
        finish_request(c, CONNECT_FAILED);
        return;
    }
    disable_nagle(c->fd);
    c->state = CONNECTING;
    watch(c, EPOLL_CTL_ADD, true);
}

static void start_request(Connection *c)
{
    started++;
    c->started_us = now_us();
    c->sent = 0;
    answer_reset(&c->answer, options.stream);
    if (c->fd < 0)
        connect_and_send(c);
    else
        send_request(c);
}

/* Starts the requests whose time has come on connections that are free, counting from when they should have begun. */
static void start_due(void)
{
    for (int i = 0; i < options.connections && started < due && may_start(); i++) {
        Connection *c = &connections[i];
        if (c->state != PAUSED)
            continue;
        int64_t due_us = run_started_us + (int64_t)((started + 1) * 1e6 / options.rate);
        start_request(c);
        c->started_us = due_us;
    }
}

static void start_ticking(void)
{
    int64_t pause_ns = (int64_t)(1e9 / options.rate);
    struct timespec pause = {pause_ns / 1000000000, pause_ns % 1000000000};
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    ticker = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(ticker, 0, &(struct itimerspec){.it_interval = pause, .it_value = pause}, NULL);
    epoll_ctl(poller, EPOLL_CTL_ADD, ticker, &event);
}

static void tick(void)
{
    uint64_t times;
    if (read(ticker, &times, sizeof times) == sizeof times)
        due += times;
    start_due();
}

static void handle_close(Connection *c, bool reset)
{
    bool untouched = c->state == RECEIVING && c->answers > 0 && !c->answer.first_byte_us;
    if (untouched) { /* a kept-alive connection the server had just closed: not an error, asked again on a new one */
        disconnect(c);
        c->sent = 0;
        connect_and_send(c);
    } else if (!reset && answer_closed(&c->answer)) {
        c->answer.closes = true;
        record_status(c->answer.status);
        finish_request(c, judge(&c->answer));
    } else
        finish_request(c, reset || !c->answer.head_complete ? RESET : INCOMPLETE);
}

static void read_answer(Connection *c)
{
    static char bytes[READ_SIZE];
    ssize_t length = read(c->fd, bytes, sizeof bytes);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0) {
        handle_close(c, length < 0);
        return;
    }
    bool had_content = c->answer.first_content_us;
    bool complete = answer_feed(&c->answer, bytes, length);
    if (!had_content && c->answer.first_content_us && ++open_streams > max_open_streams)
        max_open_streams = open_streams;
    if (!complete)
        return;
    c->answers++;
    record_status(c->answer.status);
    finish_request(c, judge(&c->answer));
}

static void handle_event(const struct epoll_event *event)
{
    Connection *c = event->data.ptr;
    if (!c) {
        tick();
        return;
    }
    if (c->fd < 0) /* closed by an earlier event of the same batch */
        return;
    if (c->state == CONNECTING && (event->events & (EPOLLERR | EPOLLHUP)))
        finish_request(c, CONNECT_FAILED);
    else if (event->events & EPOLLOUT)
        send_request(c);
    else
        read_answer(c);
}

/* Starts what is due and ends what takes too long. */
static void scan_connections(void)
{
    int64_t now = now_us();
    for (int i = 0; i < options.connections; i++) {
        Connection *c = &connections[i];
        if (c->state == PAUSED && !may_start())
            end_connection(c);
        else if (c->state == PAUSED && !options.rate && c->starts_at_us <= now)
            start_request(c);
        else if (c->state != PAUSED && c->state != ENDED && now - c->started_us > options.timeout_seconds * 1e6)
            finish_request(c, TIMED_OUT);
    }
}

static void run(void)
{
    connections = calloc(options.connections, sizeof *connections);
    struct epoll_event events[EVENTS_AT_ONCE];
    if (!connections)
        abort();
    poller = epoll_create1(0);
    run_started_us = now_us();
    live_connections = options.connections;
    for (int i = 0; i < options.connections; i++) {
        connections[i].fd = -1;
        connections[i].starts_at_us = run_started_us + (int64_t)(options.ramp_seconds * 1e6 * i / options.connections);
    }
    if (options.rate)
        start_ticking();
    int64_t next_scan_us = 0;
    while (live_connections) {
        if (now_us() >= next_scan_us) {
            scan_connections();
            next_scan_us = now_us() + SCAN_INTERVAL_MS * 1000;
        }
        int ready = epoll_wait(poller, events, EVENTS_AT_ONCE, SCAN_INTERVAL_MS);
        for (int i = 0; i < ready; i++)
            handle_event(&events[i]);
    }
}

int main(int count, char **arguments)
{
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    read_options(count, arguments);
    build_request(&request, &address);
    run();
    print_report(&(RunSummary){.connections = options.connections,
                               .elapsed_seconds = (double)(now_us() - run_started_us) / 1e6,
                               .max_open_streams = max_open_streams});
    return 0;
}
