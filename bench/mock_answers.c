/* What the mock provider answers: fixed bytes, built once, in the shapes of OpenAI's API reference (chat completion,
 * chat completion chunk, embeddings, model list). */
#define _GNU_SOURCE
#include "mock_provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EMBEDDING_SIZE = 1536, ID_DIGITS = 16 };

#define ID_PREFIX "chatcmpl-mock"
#define COMPLETION_ID ID_PREFIX "0000000000000000"
#define TOKEN_DETAILS                                                                                                  \
    "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"                                              \
    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"       \
    "\"rejected_prediction_tokens\":0}"
#define CHUNK_START                                                                                                    \
    "data: {\"id\":\"" COMPLETION_ID "\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"                 \
    "\"model\":\"mock-model\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\",\"choices\":"
#define CHOICE(delta, finish_reason)                                                                                   \
    CHUNK_START "[{\"index\":0,\"delta\":" delta ",\"logprobs\":null,\"finish_reason\":" finish_reason                 \
                "}],\"usage\":null}\n\n"

static Answer chat, embedding_floats, embedding_base64, models, anything_else;
static StreamAnswer stream;
static uint64_t first_id; /* ids of two runs differ: a ledger keyed by them must not take one for a repeat */

static Answer own_bytes(char *bytes, size_t length)
{
    char *id = strstr(bytes, ID_PREFIX);
    return (Answer){bytes, length, id ? id + strlen(ID_PREFIX) : NULL};
}

Answer make_json_answer(const char *body)
{
    char *bytes;
    int length = asprintf(&bytes,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                          "x-request-id: req_mock0001\r\n\r\n%s",
                          strlen(body), body);
    if (length < 0)
        abort();
    return own_bytes(bytes, length);
}

/* One event as one HTTP chunk; `tail` is sent with it, outside the chunk. */
static Answer make_http_chunk(const char *event, const char *tail)
{
    char *bytes;
    int length = asprintf(&bytes, "%zx\r\n%s\r\n%s", strlen(event), event, tail);
    if (length < 0)
        abort();
    return own_bytes(bytes, length);
}

static void build_chat(void)
{
    const char *sentence = "The quick brown fox jumps over the lazy dog while the gateway forwards this fixed answer "
                           "without looking at it. ";
    char text[700] = "";
    while (strlen(text) + strlen(sentence) < 560)
        strcat(text, sentence);
    char body[2048];
    snprintf(body, sizeof body,
             "{\"id\":\"" COMPLETION_ID "\",\"object\":\"chat.completion\",\"created\":1700000000,"
             "\"model\":\"mock-model\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\","
             "\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
             "\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":110,\"total_tokens\":135," TOKEN_DETAILS "},"
             "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\"}",
             text);
    chat = make_json_answer(body);
}

static void build_stream(void)
{
    const char *head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
                       "Transfer-Encoding: chunked\r\nx-request-id: req_mock0001\r\n\r\n";
    stream.head = own_bytes(strdup(head), strlen(head));
    stream.role = make_http_chunk(CHOICE("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null"), "");
    stream.content = make_http_chunk(CHOICE("{\"content\":\" the quick brown fox jumps over the dog\"}", "null"), "");
    stream.finish = make_http_chunk(CHOICE("{}", "\"stop\""), "");
    stream.end = make_http_chunk(
        CHUNK_START "[],\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":512,\"total_tokens\":537," TOKEN_DETAILS
                    "}}\n\n",
        "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}

static char *encode_base64(const unsigned char *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = calloc(1, length / 3 * 4 + 1), *out = text;
    for (size_t i = 0; i + 2 < length; i += 3) { /* 1536 floats are a multiple of three bytes: no padding */
        *out++ = digits[bytes[i] >> 2];
        *out++ = digits[((bytes[i] & 3) << 4) | (bytes[i + 1] >> 4)];
        *out++ = digits[((bytes[i + 1] & 15) << 2) | (bytes[i + 2] >> 6)];
        *out++ = digits[bytes[i + 2] & 63];
    }
    return text;
}

static Answer make_embedding_answer(const char *embedding)
{
    char *body;
    if (asprintf(&body,
                 "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":%s}],"
                 "\"model\":\"mock-embed\",\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}",
                 embedding) < 0)
        abort();
    Answer answer = make_json_answer(body);
    free(body);
    return answer;
}

static void build_embeddings(void)
{
    static float values[EMBEDDING_SIZE];
    static char list[EMBEDDING_SIZE * 16], quoted[EMBEDDING_SIZE * 8];
    size_t length = 0;
    uint32_t random = 12345; /* a linear congruential generator: the same vector in every run */
    for (int i = 0; i < EMBEDDING_SIZE; i++) {
        random = random * 1664525u + 1013904223u;
        values[i] = (float)((random >> 8) % 1000000) / 12345678.0f - 0.04f;
        length += snprintf(list + length, sizeof list - length, "%c%.9f", i ? ',' : '[', values[i]);
    }
    snprintf(list + length, sizeof list - length, "]");
    embedding_floats = make_embedding_answer(list);
    char *text = encode_base64((const unsigned char *)values, sizeof values);
    snprintf(quoted, sizeof quoted, "\"%s\"", text);
    free(text);
    embedding_base64 = make_embedding_answer(quoted);
}

void build_answers(void)
{
    build_chat();
    build_stream();
    build_embeddings();
    models = make_json_answer("{\"object\":\"list\",\"data\":["
                              "{\"id\":\"mock-model\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\"},"
                              "{\"id\":\"mock-embed\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\"}]}");
    anything_else = make_json_answer("{\"ok\":true}");
    first_id = (uint64_t)time(NULL) << 32;
}

void stamp_id(const Answer *answer, uint64_t id)
{
    uint64_t rest = first_id + id;
    for (int i = ID_DIGITS - 1; answer->id_digits && i >= 0; i--, rest >>= 4)
        answer->id_digits[i] = "0123456789abcdef"[rest & 15];
}

const Answer *fixed_answer(AnswerKind kind, uint64_t id)
{
    switch (kind) {
    case CHAT:
        stamp_id(&chat, id);
        return &chat;
    case EMBEDDING_FLOATS:
        return &embedding_floats;
    case EMBEDDING_BASE64:
        return &embedding_base64;
    case MODELS:
        return &models;
    default:
        return &anything_else;
    }
}

const StreamAnswer *stream_answer(void) { return &stream; }
