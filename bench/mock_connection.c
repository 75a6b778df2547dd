/* One client's connection to the mock, and the timers that pace its answers. */
#define _GNU_SOURCE
#include "mock_provider.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

Stats stats;
int poller;

static Timer *timers; /* a binary heap, the earliest first */
static int timer_count, timer_capacity;

static void swap_timers(int one, int other)
{
    Timer kept = timers[one];
    timers[one] = timers[other];
    timers[other] = kept;
}

void push_timer(const Connection *c)
{
    if (timer_count == timer_capacity) {
        timer_capacity = timer_capacity ? timer_capacity * 2 : 1024;
        timers = realloc(timers, timer_capacity * sizeof *timers);
        if (!timers)
            abort();
    }
    int at = timer_count++;
    timers[at] = (Timer){c->due_us, c->fd, c->generation};
    for (; at && timers[(at - 1) / 2].due_us > timers[at].due_us; at = (at - 1) / 2)
        swap_timers(at, (at - 1) / 2);
}

static Timer pop_timer(void)
{
    Timer first = timers[0];
    timers[0] = timers[--timer_count];
    for (int at = 0;;) {
        int least = at;
        for (int child = 2 * at + 1; child <= 2 * at + 2 && child < timer_count; child++)
            if (timers[child].due_us < timers[least].due_us)
                least = child;
        if (least == at)
            return first;
        swap_timers(at, least);
        at = least;
    }
}

bool pop_due_timer(int64_t now, Timer *timer)
{
    if (!timer_count || timers[0].due_us > now)
        return false;
    *timer = pop_timer();
    return true;
}

int milliseconds_to_next_timer(void)
{
    if (!timer_count)
        return -1;
    int64_t left_us = timers[0].due_us - now_us();
    return left_us <= 0 ? 0 : (int)((left_us + 999) / 1000);
}

void watch_connection(Connection *c, int operation, bool writable)
{
    uint32_t events = EPOLLIN | EPOLLRDHUP | (writable ? EPOLLOUT : 0);
    struct epoll_event event = {events, {.fd = c->fd}};
    epoll_ctl(poller, operation, c->fd, &event);
    c->waits_to_write = writable;
}

void close_connection(Connection *c)
{
    if (!c->open)
        return;
    if (c->phase != READING) {
        stats.aborted++;
        stats.open_streams -= c->request.kind == CHAT_STREAM;
    }
    close(c->fd);
    stats.connections--;
    c->open = false;
    c->generation++;
    c->phase = READING;
    c->input.length = c->output.length = 0;
}

bool flush_output(Connection *c)
{
    while (c->output.length) {
        ssize_t written = write(c->fd, c->output.bytes, c->output.length);
        if (written < 0 && errno != EAGAIN) {
            close_connection(c);
            return false;
        }
        if (written < 0) {
            if (!c->waits_to_write)
                watch_connection(c, EPOLL_CTL_MOD, true);
            return true;
        }
        buffer_drop_front(&c->output, written);
    }
    if (c->waits_to_write)
        watch_connection(c, EPOLL_CTL_MOD, false);
    return true;
}

bool send_answer(Connection *c, const Answer *answer)
{
    size_t sent = 0;
    if (!c->output.length) {
        ssize_t written = write(c->fd, answer->bytes, answer->length);
        if (written < 0 && errno != EAGAIN) {
            close_connection(c);
            return false;
        }
        sent = written > 0 ? (size_t)written : 0;
        if (sent == answer->length)
            return true;
    }
    buffer_append(&c->output, answer->bytes + sent, answer->length - sent);
    return flush_output(c);
}
