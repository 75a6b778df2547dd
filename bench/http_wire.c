/* See http_wire.h. */
#define _GNU_SOURCE
#include "http_wire.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

void buffer_reserve(Buffer *buffer, size_t extra)
{
    size_t needed = buffer->length + extra + 1;
    if (needed <= buffer->capacity)
        return;
    buffer->capacity = needed * 2;
    buffer->bytes = realloc(buffer->bytes, buffer->capacity);
    if (!buffer->bytes) {
        perror("realloc");
        exit(1);
    }
}

void buffer_append(Buffer *buffer, const char *bytes, size_t length)
{
    buffer_reserve(buffer, length);
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    buffer->bytes[buffer->length] = '\0';
}

void buffer_drop_front(Buffer *buffer, size_t length)
{
    if (!length)
        return;
    buffer->length -= length;
    memmove(buffer->bytes, buffer->bytes + length, buffer->length);
    buffer->bytes[buffer->length] = '\0';
}

int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

void disable_nagle(int fd)
{
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

size_t find_head_length(const char *bytes, size_t length)
{
    const char *end = length ? memmem(bytes, length, "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end - bytes) + 4 : 0;
}

const char *find_header(const char *head, size_t head_length, const char *name)
{
    size_t name_length = strlen(name);
    const char *end = head + head_length;
    const char *line = memmem(head, head_length, "\r\n", 2);
    while (line && line + 2 + name_length < end) {
        line += 2;
        if (line[name_length] == ':' && !strncasecmp(line, name, name_length)) {
            const char *value = line + name_length + 1;
            while (*value == ' ')
                value++;
            return value;
        }
        line = memmem(line, end - line, "\r\n", 2);
    }
    return NULL;
}

bool header_starts_with(const char *head, size_t head_length, const char *name, const char *value)
{
    const char *found = find_header(head, head_length, name);
    return found && !strncasecmp(found, value, strlen(value));
}

static void take_size_byte(ChunkDecoder *decoder, char byte)
{
    if (byte != '\n') {
        if (decoder->line_length < sizeof decoder->line - 1)
            decoder->line[decoder->line_length++] = byte;
        return;
    }
    decoder->line[decoder->line_length] = '\0';
    decoder->left = strtoul(decoder->line, NULL, 16);
    decoder->line_length = 0;
    decoder->phase = decoder->left ? CHUNK_DATA : CHUNK_TRAILER;
}

static void take_trailer_byte(ChunkDecoder *decoder, char byte)
{
    if (byte == '\r')
        return;
    if (byte != '\n')
        decoder->line_length++;
    else if (decoder->line_length)
        decoder->line_length = 0;
    else
        decoder->phase = CHUNKS_COMPLETE;
}

size_t chunks_feed(ChunkDecoder *decoder, const char *bytes, size_t length, BodySink sink, void *context)
{
    size_t taken = 0;
    while (taken < length && decoder->phase != CHUNKS_COMPLETE) {
        size_t run = 1;
        switch (decoder->phase) {
        case CHUNK_SIZE:
            take_size_byte(decoder, bytes[taken]);
            break;
        case CHUNK_DATA:
            run = length - taken < decoder->left ? length - taken : decoder->left;
            sink(context, bytes + taken, run);
            decoder->left -= run;
            if (!decoder->left)
                decoder->phase = CHUNK_END;
            break;
        case CHUNK_END:
            if (bytes[taken] == '\n')
                decoder->phase = CHUNK_SIZE;
            break;
        default:
            take_trailer_byte(decoder, bytes[taken]);
        }
        taken += run;
    }
    return taken;
}
