/* Reads one HTTP answer, JSON or a server-sent event stream, as it arrives. */
#define _GNU_SOURCE
#include "load_generator.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void answer_reset(Answer *answer, bool wants_stream)
{
    Buffer head = answer->head, events = answer->events;
    head.length = events.length = 0;
    *answer = (Answer){.wants_stream = wants_stream, .head = head, .events = events, .content_length = -1};
}

/* A content event is a chunk whose delta carries text: not the role, finish and usage chunks. */
static bool has_content(const char *line, size_t length)
{
    const char *value = memmem(line, length, "\"content\":", 10);
    if (!value)
        return false;
    value += 10;
    while (*value == ' ')
        value++;
    return value[0] == '"' && value[1] != '"';
}

static void take_line(Answer *answer, const char *line, size_t length)
{
    if (length < 5 || memcmp(line, "data:", 5))
        return;
    if (memmem(line, length, "[DONE]", 6)) {
        answer->done = true;
        return;
    }
    if (!has_content(line, length))
        return;
    answer->content_events++;
    if (!answer->first_content_us)
        answer->first_content_us = now_us();
}

static void take_events(Answer *answer, const char *bytes, size_t length)
{
    buffer_append(&answer->events, bytes, length);
    size_t start = 0;
    for (;;) {
        const char *line = answer->events.bytes + start;
        const char *end = memchr(line, '\n', answer->events.length - start);
        if (!end)
            break;
        take_line(answer, line, end - line);
        start += end - line + 1;
    }
    buffer_drop_front(&answer->events, start);
}

static void take_body(void *context, const char *bytes, size_t length)
{
    Answer *answer = context;
    answer->received += length;
    if (answer->status != 200) {
        size_t room = sizeof answer->error_start - 1 - answer->error_length;
        size_t kept = length < room ? length : room;
        memcpy(answer->error_start + answer->error_length, bytes, kept);
        answer->error_length += kept;
    } else if (answer->wants_stream)
        take_events(answer, bytes, length);
}

static bool feed_body(Answer *answer, const char *bytes, size_t length)
{
    if (answer->chunked) {
        chunks_feed(&answer->chunks, bytes, length, take_body, answer);
        return answer->chunks.phase == CHUNKS_COMPLETE;
    }
    take_body(answer, bytes, length);
    return answer->content_length >= 0 && answer->received >= (size_t)answer->content_length;
}

static void read_head(Answer *answer, size_t length)
{
    const char *head = answer->head.bytes;
    answer->status = length > 12 ? atoi(head + strlen("HTTP/1.1 ")) : 0;
    answer->chunked = header_starts_with(head, length, "transfer-encoding", "chunked");
    answer->closes = header_starts_with(head, length, "connection", "close");
    const char *value = find_header(head, length, "content-length");
    answer->content_length = value ? strtol(value, NULL, 10) : -1;
    answer->head_complete = true;
}

bool answer_feed(Answer *answer, const char *bytes, size_t length)
{
    if (answer->head_complete)
        return feed_body(answer, bytes, length);
    if (!answer->first_byte_us)
        answer->first_byte_us = now_us();
    buffer_append(&answer->head, bytes, length);
    for (;;) {
        size_t head_length = find_head_length(answer->head.bytes, answer->head.length);
        if (!head_length)
            return false;
        read_head(answer, head_length);
        if (answer->status != 100)
            return feed_body(answer, answer->head.bytes + head_length, answer->head.length - head_length);
        buffer_drop_front(&answer->head, head_length); /* 100 Continue: the answer itself follows */
        answer->head_complete = false;
    }
}

bool answer_closed(const Answer *answer)
{
    return answer->head_complete && !answer->chunked && answer->content_length < 0;
}
