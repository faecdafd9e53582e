/* What runs in the pods of the end-to-end test, compiled by ./run against musl (static) and glibc (dynamic):
 *
 *   probe resolve NAME...            the addresses that this C library's getaddrinfo finds, a line for each name
 *   probe load SERVER RATE FILE      RATE queries a second, forever, for the names of FILE, checking each answer
 *   probe serve ADDRESS              an upstream: A 192.0.2.7 for names in outside.test, NXDOMAIN for others
 *   probe hold                       nothing, until SIGTERM (the sandbox of pods)
 *
 * FILE has a line `NAME TYPE RCODE [RDATA...]` for each query, for instance
 * `web.shop.svc.cluster.local A 0 10.96.0.9`. RDATA are in the order of strcmp; `SRV` as `0,100,80,TARGET`.
 *
 * The load: of 50 queries, 44 come from PINNED UDP sockets that are never closed, 5 from a new UDP socket each and
 * one from a new TCP connection. A query without a reply within TRY is `lost`, and sent once more as the resolver of
 * musl does: from the same socket if it is pinned, else from a new one. Without a reply to that either it is `failed`.
 * A reply that is not the expected one is `wrong`, or `servfail` if that is its rcode. Output: a line for each of
 * these with its time, and a line `second` for each second, when all its queries are answered or given up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PINNED = 20, TRY = 2500000 /* microseconds */, TRIES = 2, HISTORY = 16 /* seconds */, TEXT = 2048, REPLY = 4096 };

static void fatal(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now(void) { /* microseconds */
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

/* ---- messages ---- */

static const struct { const char *name; int number; } TYPES[] = {
    {"A", 1}, {"CNAME", 5}, {"PTR", 12}, {"AAAA", 28}, {"SRV", 33}};

static int type_number(const char *name) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (!strcmp(TYPES[i].name, name)) return TYPES[i].number;
    fatal("unknown type %s", name);
    return 0;
}

/* Reads the name at `at`, without the final dot and in lower case. Returns the offset after it, or -1. */
static int read_name(const uint8_t *message, int size, int at, char *name) {
    int after = -1, length = 0, jumps = 0;
    for (;;) {
        if (at >= size) return -1;
        int label = message[at];
        if (label >= 0xC0) {
            if (at + 1 >= size || ++jumps > 64) return -1;
            if (after < 0) after = at + 2;
            at = (label & 0x3F) << 8 | message[at + 1];
            continue;
        }
        at++;
        if (label == 0) break;
        if (label > 63 || at + label > size || length + label + 1 > 254) return -1;
        if (length) name[length++] = '.';
        for (int i = 0; i < label; i++) {
            char letter = message[at + i];
            name[length++] = letter >= 'A' && letter <= 'Z' ? letter + 32 : letter;
        }
        at += label;
    }
    name[length] = 0;
    return after < 0 ? at : after;
}

static int write_query(uint8_t *message, int id, const char *name, int type) {
    const uint8_t header[12] = {id >> 8, id & 0xFF, 1, 0, 0, 1};
    memcpy(message, header, 12);
    int at = 12;
    while (*name) {
        size_t label = strcspn(name, ".");
        message[at++] = label;
        memcpy(message + at, name, label);
        at += label;
        name += label + (name[label] == '.');
    }
    const uint8_t end[5] = {0, type >> 8, type & 0xFF, 0, 1};
    memcpy(message + at, end, 5);
    return at + 5;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Writes `RCODE RDATA...` of a reply, as FILE has it; what cannot be read as a word in brackets. */
static void describe(const uint8_t *message, int size, const char *name, int type, char *text) {
    static char data[64][300];
    char *sorted[64], owner[256];
    int count = 0;
    strcpy(text, "(malformed)");
    if (size < 12) return;
    if (message[2] & 2) { strcpy(text, "(truncated)"); return; }
    int at = read_name(message, size, 12, owner), answers = message[6] << 8 | message[7];
    if ((message[4] << 8 | message[5]) != 1 || at < 0 || at + 4 > size) return;
    if (strcmp(owner, name) || (message[at] << 8 | message[at + 1]) != type) { strcpy(text, "(other question)"); return; }
    at += 4;
    while (answers-- > 0) {
        if ((at = read_name(message, size, at, owner)) < 0 || at + 10 > size) return;
        int rtype = message[at] << 8 | message[at + 1], length = message[at + 8] << 8 | message[at + 9];
        at += 10;
        if (at + length > size) return;
        if (rtype == type && count < 64) {
            char *to = data[count], target[256];
            if (type == 1 && length == 4) inet_ntop(AF_INET, message + at, to, 300);
            else if (type == 28 && length == 16) inet_ntop(AF_INET6, message + at, to, 300);
            else if (type == 33 && length > 6 && read_name(message, size, at + 6, target) > 0)
                snprintf(to, 300, "%d,%d,%d,%s", message[at] << 8 | message[at + 1], message[at + 2] << 8 | message[at + 3],
                         message[at + 4] << 8 | message[at + 5], target);
            else if ((type == 5 || type == 12) && read_name(message, size, at, target) > 0) snprintf(to, 300, "%s", target);
            else return;
            sorted[count++] = to;
        }
        at += length;
    }
    qsort(sorted, count, sizeof *sorted, by_text);
    int used = snprintf(text, TEXT, "%d", message[3] & 15);
    for (int i = 0; i < count && used < TEXT; i++) used += snprintf(text + used, TEXT - used, " %s", sorted[i]);
}

/* ---- load ---- */

struct question { char name[256], type_name[8], expected[TEXT]; int type; };

struct query {           /* its index is the id of the message */
    int active;          /* its place in `active`, or -1 */
    int fd, tries, question, tcp, pinned;
    int had;             /* of TCP: 0 not sent, -1 broken, else 1 + bytes of `reply` */
    int64_t first, sent;
    uint8_t *reply;      /* of TCP */
};

static struct question *questions;
static int question_count, pinned[PINNED];
static struct query queries[65536];
static int active[65536], active_count;  /* ids of the queries in flight */
static struct sockaddr_in server;
static struct { int64_t second, sent, lost, wrong, servfail, failed, slowest; } history[HISTORY];

#define COUNT(query, field) (history[(query)->first / 1000000 % HISTORY].field++)

static void report(const char *what, const struct query *query, const char *detail) {
    const struct question *question = questions + query->question;
    printf("%s %.3f %s %s %s%s%s\n", what, query->first / 1e6, query->tcp ? "tcp" : query->pinned >= 0 ? "pinned" : "new",
           question->name, question->type_name, *detail ? " " : "", detail);
}

static void release(struct query *query) {
    if (query->pinned < 0 && query->fd >= 0) close(query->fd);
    free(query->reply);
    query->reply = NULL;
    active[query->active] = active[--active_count];
    queries[active[query->active]].active = query->active;
    query->active = -1;
}

static int connected(int kind) {
    int fd = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fatal("socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) { close(fd); return -1; }
    return fd;
}

static void send_query(int id) {
    struct query *query = queries + id;
    const struct question *question = questions + query->question;
    uint8_t message[2 + 300];
    query->had = 0;
    query->sent = now();
    if (query->pinned >= 0) query->fd = pinned[query->pinned];
    else if ((query->fd = connected(query->tcp ? SOCK_STREAM : SOCK_DGRAM)) < 0) return;
    /* A stream is written to when it is connected: see `stream`. An error of a socket that is pinned may be about an
     * earlier datagram (ICMP), so this one is sent again. */
    int size = write_query(message, id, question->name, question->type);
    if (!query->tcp && send(query->fd, message, size, 0) < 0) send(query->fd, message, size, 0);
}

static void begin(int number) {
    static int next;
    int id = next;
    while (queries[id].active >= 0) if ((id = (id + 1) & 0xFFFF) == next) fatal("65,536 queries in flight");
    next = (id + 1) & 0xFFFF;
    struct query *query = queries + id;
    int turn = number % 50;
    query->active = active_count;
    active[active_count++] = id;
    query->tries = 1;
    query->question = (number + number / 50) % question_count;
    query->tcp = turn == 49;
    if (query->tcp && !(query->reply = malloc(REPLY))) fatal("no memory");
    query->pinned = turn < 44 ? number % PINNED : -1;
    query->first = now();
    int slot = query->first / 1000000 % HISTORY;
    if (history[slot].second != query->first / 1000000) {
        memset(history + slot, 0, sizeof history[slot]);
        history[slot].second = query->first / 1000000;
    }
    COUNT(query, sent);
    send_query(id);
}

static void finish(struct query *query, const uint8_t *message, int size) {
    const struct question *question = questions + query->question;
    char text[TEXT];
    describe(message, size, question->name, question->type, text);
    int64_t took = now() - query->first;
    int slot = query->first / 1000000 % HISTORY;
    if (took > history[slot].slowest) history[slot].slowest = took;
    if (strcmp(text, question->expected)) {
        if (*text == '2') { COUNT(query, servfail); report("servfail", query, ""); }
        else { COUNT(query, wrong); report("wrong", query, text); }
    }
    release(query);
}

static void datagrams(int fd) {
    uint8_t message[4096];
    ssize_t size;
    while ((size = recv(fd, message, sizeof message, 0)) >= 0 || errno == ECONNREFUSED) {
        if (size < 12) continue;
        struct query *query = queries + (message[0] << 8 | message[1]);
        if (query->active >= 0 && query->fd == fd) {
            int last = query->pinned < 0;
            finish(query, message, size);
            if (last) return;
        }
    }
}

static void stream(int id, short events) {
    struct query *query = queries + id;
    if (events & POLLOUT && !query->had) {
        const struct question *question = questions + query->question;
        uint8_t message[2 + 300];
        int size = write_query(message + 2, id, question->name, question->type);
        message[0] = size >> 8;
        message[1] = size & 0xFF;
        query->had = send(query->fd, message, size + 2, MSG_NOSIGNAL) == size + 2 ? 1 : -1; /* from here bytes had + 1 */
        return;
    }
    if (query->had < 1) return;
    ssize_t size = recv(query->fd, query->reply + query->had - 1, REPLY - query->had + 1, 0);
    if (size <= 0) { if (size == 0 || errno != EAGAIN) query->had = -1; return; } /* waits for the next try */
    query->had += size;
    int length = query->reply[0] << 8 | query->reply[1];
    if (query->had - 1 >= 2 && query->had - 1 >= length + 2) finish(query, query->reply + 2, length);
}

static void load(const char *address, int rate, const char *path) {
    FILE *file = fopen(path, "r");
    char line[4096], type[8];
    if (!file) fatal("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        questions = realloc(questions, (question_count + 1) * sizeof *questions);
        struct question *question = questions + question_count;
        int at = 0;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%255s %7s %n", question->name, type, &at) < 2 || !line[at]) fatal("%s: %s", path, line);
        question->type = type_number(type);
        snprintf(question->type_name, sizeof question->type_name, "%s", type);
        snprintf(question->expected, sizeof question->expected, "%s", line + at);
        question_count++;
    }
    fclose(file);
    if (!question_count || rate < 1) fatal("nothing to send");
    server.sin_family = AF_INET;
    server.sin_port = htons(53);
    if (inet_pton(AF_INET, address, &server.sin_addr) != 1) fatal("%s is no IPv4 address", address);
    for (int id = 0; id < 65536; id++) queries[id].active = -1;
    for (int i = 0; i < PINNED; i++) if ((pinned[i] = connected(SOCK_DGRAM)) < 0) fatal("connect: %s", strerror(errno));
    static struct pollfd polled[65536 + PINNED];
    static int owner[65536 + PINNED];
    int64_t start = now(), number = 0, printed = start / 1000000;
    for (;;) {
        int64_t next = start + number * 1000000 / rate;
        int count = 0;
        for (; count < PINNED; count++) polled[count] = (struct pollfd){pinned[count], POLLIN, 0};
        for (int i = 0; i < active_count; i++) {
            int id = active[i];
            struct query *query = queries + id;
            if (query->pinned >= 0 || query->fd < 0 || query->had < 0) continue;
            polled[count] = (struct pollfd){query->fd, query->tcp && !query->had ? POLLOUT : POLLIN, 0};
            owner[count++] = id;
        }
        int64_t left = next - now();
        struct timespec wait = {0, left > 0 ? left * 1000 : 0};
        if (ppoll(polled, count, &wait, NULL) < 0 && errno != EINTR) fatal("poll: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (!polled[i].revents) continue;
            if (i < PINNED || !queries[owner[i]].tcp) datagrams(polled[i].fd);
            else stream(owner[i], polled[i].revents);
        }
        int64_t time = now();
        for (int i = active_count - 1; i >= 0; i--) { /* backwards: a released one is replaced by the last */
            int id = active[i];
            struct query *query = queries + id;
            if (time - query->sent < TRY) continue;
            if (query->tries == 1) { COUNT(query, lost); report("lost", query, ""); }
            if (query->tries++ == TRIES) { COUNT(query, failed); report("failed", query, ""); release(query); continue; }
            if (query->pinned < 0 && query->fd >= 0) close(query->fd);
            send_query(id);
        }
        for (; next <= time; next = start + ++number * 1000000 / rate) begin(number);
        for (; printed + TRIES * TRY / 1000000 + 2 < time / 1000000; printed++) {
            int slot = printed % HISTORY;
            if (history[slot].second != printed) continue;
            printf("second %lld %lld %lld %lld %lld %lld %lld\n", (long long)printed, (long long)history[slot].sent,
                   (long long)history[slot].lost, (long long)history[slot].wrong, (long long)history[slot].servfail,
                   (long long)history[slot].failed, (long long)history[slot].slowest / 1000);
        }
    }
}

/* ---- the others ---- */

static void resolve(const char *name) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int error = getaddrinfo(name, NULL, &hints, &list), count = 0;
    static char text[64][64];
    char *sorted[64];
    for (struct addrinfo *one = list; one && count < 64; one = one->ai_next)
        if (!getnameinfo(one->ai_addr, one->ai_addrlen, text[count], 64, NULL, 0, NI_NUMERICHOST)) {
            sorted[count] = text[count];
            count++;
        }
    if (error) { printf("%s\n", gai_strerror(error)); return; }
    qsort(sorted, count, sizeof *sorted, by_text);
    for (int i = 0; i < count; i++) printf("%s%s", i ? " " : "", sorted[i]);
    printf("\n");
    freeaddrinfo(list);
}

/* Turns a query into its reply, for which there is room. Returns the size, or 0 for what is no query. */
static int reply_to(uint8_t *message, int size) {
    static const uint8_t record[] = {0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 7};
    char name[256];
    if (size < 17 || message[2] & 0x80) return 0;
    int end = read_name(message, size, 12, name) + 4;
    if (end < 16 || end > size) return 0;
    size_t letters = strlen(name);
    int known = letters >= 12 && !strcmp(name + letters - 12, "outside.test");
    int is_a = known && message[end - 4] == 0 && message[end - 3] == 1;
    message[2] = 0x80 | (message[2] & 1);
    message[3] = known ? 0x80 : 0x83;
    memset(message + 6, 0, 6);
    message[7] = is_a;
    if (is_a) memcpy(message + end, record, sizeof record);
    return end + is_a * sizeof record;
}

static int read_all(int fd, uint8_t *to, int size) {
    for (int had = 0, got; had < size; had += got)
        if ((got = read(fd, to + had, size - had)) <= 0) return 0;
    return 1;
}

static void serve_stream(int fd) {
    uint8_t message[2 + 4096 + 16];
    while (read_all(fd, message, 2)) {
        int size = message[0] << 8 | message[1];
        if (size > 4096 || !read_all(fd, message + 2, size) || !(size = reply_to(message + 2, size))) return;
        message[0] = size >> 8;
        message[1] = size & 0xFF;
        if (write(fd, message, size + 2) != size + 2) return;
    }
}

/* A process for datagrams, one for new connections, and one for each connection. */
static void serve(const char *address) {
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(53)}, client;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (inet_pton(AF_INET, address, &local.sin_addr) != 1 || bind(fd, (struct sockaddr *)&local, sizeof local) ||
        bind(listener, (struct sockaddr *)&local, sizeof local) || listen(listener, 64))
        fatal("%s: %s", address, strerror(errno));
    signal(SIGCHLD, SIG_IGN);
    if (!fork())
        for (;;) {
            int stream = accept(listener, NULL, NULL);
            if (stream >= 0 && !fork()) { serve_stream(stream); _exit(0); }
            close(stream);
        }
    for (;;) {
        uint8_t message[4096 + 16];
        socklen_t length = sizeof client;
        ssize_t size = recvfrom(fd, message, 4096, 0, (struct sockaddr *)&client, &length);
        if (size > 0 && (size = reply_to(message, size))) sendto(fd, message, size, 0, (struct sockaddr *)&client, length);
    }
}

static void end(int signal) { (void)signal; _exit(0); }

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, end);
    signal(SIGINT, end);
    if (count > 2 && !strcmp(words[1], "resolve")) for (int i = 2; i < count; i++) resolve(words[i]);
    else if (count == 5 && !strcmp(words[1], "load")) load(words[2], atoi(words[3]), words[4]);
    else if (count == 3 && !strcmp(words[1], "serve")) serve(words[2]);
    else if (count == 2 && !strcmp(words[1], "hold")) for (;;) pause();
    else fatal("usage: probe resolve NAME... | load SERVER RATE FILE | serve ADDRESS | hold");
    return 0;
}
