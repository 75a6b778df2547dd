/* Reads a request as far as the mock must: path, length, and three fields found by their text. A JSON parser would cost
 * more than the rest of the mock, and the requests come from clients we know. */
#define _GNU_SOURCE
#include "mock_provider.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CONTENT_CHUNKS = 64 };

static void append_to_body(void *body, const char *bytes, size_t length)
{
    buffer_append(body, bytes, length);
}

/* The text after `"field":`, its spaces skipped; NULL when the body has no such field. */
static const char *find_field(const Buffer *body, const char *quoted_field)
{
    const char *found = body->length ? memmem(body->bytes, body->length, quoted_field, strlen(quoted_field)) : NULL;
    if (!found)
        return NULL;
    found += strlen(quoted_field);
    while (*found == ' ' || *found == ':')
        found++;
    return found;
}

static bool field_is(const Buffer *body, const char *quoted_field, const char *value)
{
    const char *found = find_field(body, quoted_field);
    return found && !strncmp(found, value, strlen(value));
}

/* A model name may say how slowly to answer: mock-t500-i1000-n30 waits 500 ms, then sends 30 chunks 1000 ms apart. */
static void read_pace(const Buffer *body, Request *request)
{
    const char *name = find_field(body, "\"model\"");
    if (!name || *name != '"')
        return;
    for (const char *at = name + 1; *at && *at != '"'; at++) {
        if (*at != '-' || at[2] < '0' || at[2] > '9')
            continue;
        long value = strtol(at + 2, NULL, 10);
        if (at[1] == 't')
            request->first_byte_ms = value;
        else if (at[1] == 'i')
            request->interval_ms = value;
        else if (at[1] == 'n')
            request->content_chunks = (int)value;
    }
}

static AnswerKind choose_kind(const char *path, size_t path_length, const Buffer *body)
{
    if (memmem(path, path_length, "/chat/completions", 17))
        return field_is(body, "\"stream\"", "true") ? CHAT_STREAM : CHAT;
    if (memmem(path, path_length, "/embeddings", 11))
        return field_is(body, "\"encoding_format\"", "\"base64\"") ? EMBEDDING_BASE64 : EMBEDDING_FLOATS;
    if (memmem(path, path_length, "/models", 7))
        return MODELS;
    return memmem(path, path_length, "/__stats", 8) ? STATS : ANYTHING_ELSE;
}

/* Copies the body out. Returns the bytes it takes after the head, or SIZE_MAX while it is incomplete. */
static size_t read_body(const Buffer *input, size_t head_length, Buffer *body)
{
    const char *rest = input->bytes + head_length;
    size_t available = input->length - head_length;
    if (header_starts_with(input->bytes, head_length, "transfer-encoding", "chunked")) {
        ChunkDecoder decoder = {0};
        size_t taken = chunks_feed(&decoder, rest, available, append_to_body, body);
        return decoder.phase == CHUNKS_COMPLETE ? taken : SIZE_MAX;
    }
    const char *value = find_header(input->bytes, head_length, "content-length");
    size_t length = value ? strtoul(value, NULL, 10) : 0;
    if (available < length)
        return SIZE_MAX;
    buffer_append(body, rest, length);
    return length;
}

size_t parse_request(const Buffer *input, Request *request)
{
    static Buffer body; /* reused: one thread, one request at a time */
    size_t head_length = find_head_length(input->bytes, input->length);
    if (!head_length)
        return 0;
    body.length = 0;
    size_t body_taken = read_body(input, head_length, &body);
    if (body_taken == SIZE_MAX)
        return 0;
    *request = (Request){.content_chunks = DEFAULT_CONTENT_CHUNKS, .kind = ANYTHING_ELSE};
    request->closes = header_starts_with(input->bytes, head_length, "connection", "close");
    const char *path = memchr(input->bytes, ' ', head_length);
    const char *path_end = path ? memchr(path + 1, ' ', head_length - (path + 1 - input->bytes)) : NULL;
    if (path_end)
        request->kind = choose_kind(path, path_end - path, &body);
    read_pace(&body, request);
    return head_length + body_taken;
}
