/* The load generator's command line, and the request made from it. */
#define _GNU_SOURCE
#include "load_generator.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Options options = {.connections = 1, .requests = -1, .timeout_seconds = 30};

static _Noreturn void fail(const char *message, const char *about)
{
    fprintf(stderr, "load_generator: %s%s\n", message, about);
    exit(2);
}

static void read_body(Buffer *body)
{
    FILE *file = options.body_file ? fopen(options.body_file, "r") : NULL;
    if (!file)
        fail("cannot read --body ", options.body_file ? options.body_file : "");
    char bytes[65536];
    size_t length;
    while ((length = fread(bytes, 1, sizeof bytes, file)))
        buffer_append(body, bytes, length);
    fclose(file);
}

void build_request(Buffer *request, struct sockaddr_in *address)
{
    char host[64], path[1024], head[2048];
    int port;
    Buffer body = {0};
    if (!options.url || sscanf(options.url, "http://%63[0-9.]:%d%1023s", host, &port, path) != 3)
        fail("--url must be http://ADDRESS:PORT/PATH, got ", options.url ? options.url : "none");
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    if (!inet_aton(host, &address->sin_addr))
        fail("not an IPv4 address: ", host);
    read_body(&body);
    int length = snprintf(head, sizeof head,
                          "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\nAccept: %s\r\n"
                          "User-Agent: load_generator\r\nContent-Length: %zu\r\n",
                          path, host, port, options.stream ? "text/event-stream" : "application/json", body.length);
    buffer_append(request, head, length);
    if (options.headers.length)
        buffer_append(request, options.headers.bytes, options.headers.length);
    buffer_append(request, "\r\n", 2);
    buffer_append(request, body.bytes, body.length);
}

static void add_header(const char *header)
{
    buffer_append(&options.headers, header, strlen(header));
    buffer_append(&options.headers, "\r\n", 2);
}

void read_options(int count, char **arguments)
{
    static const struct option known[] = {
        {"url", required_argument, NULL, 'u'},          {"body", required_argument, NULL, 'b'},
        {"header", required_argument, NULL, 'h'},       {"connections", required_argument, NULL, 'c'},
        {"requests", required_argument, NULL, 'n'},     {"seconds", required_argument, NULL, 's'},
        {"warmup", required_argument, NULL, 'w'},       {"min-events", required_argument, NULL, 'e'},
        {"ramp-seconds", required_argument, NULL, 'r'}, {"timeout-seconds", required_argument, NULL, 't'},
        {"rate", required_argument, NULL, 'a'},
        {"stream", no_argument, &options.stream, 1},    {"once", no_argument, &options.once, 1},
        {0},
    };
    int option;
    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
        switch (option) {
        case 'u': options.url = optarg; break;
        case 'b': options.body_file = optarg; break;
        case 'h': add_header(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 'n': options.requests = atol(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'w': options.warmup = atol(optarg); break;
        case 'e': options.min_events = atoi(optarg); break;
        case 'r': options.ramp_seconds = atof(optarg); break;
        case 't': options.timeout_seconds = atof(optarg); break;
        case 'a': options.rate = atof(optarg); break;
        case '?': exit(2);
        }
    }
    if (options.once && options.requests < 0)
        options.requests = options.connections;
    if (options.requests < 0 && options.seconds <= 0)
        fail("give --requests, --seconds or --once: this run would not end", "");
    if (options.rate < 0 || options.rate > 1e6 || (options.rate && options.once))
        fail("--rate is requests a second, and not for --once", "");
}
