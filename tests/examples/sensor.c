/* A sensor process in C: the load of this board, once a second, for ever.
 *
 *   cc -o sensor sensor.c && ./sensor [SOCKET]
 *
 * It asks the stream socket for an answer to each reading, so it knows when one is on
 * the board's disk. COUNT=N ends it after N readings, PAUSE=S waits S seconds between
 * two.
 */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? atol(text) : otherwise;
}

static int connected(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int agent = socket(AF_UNIX, SOCK_STREAM, 0);

    if (strlen(path) >= sizeof(address.sun_path)) {
        fprintf(stderr, "%s: too long for a socket\n", path);
        return -1;
    }
    strcpy(address.sun_path, path);
    if (agent < 0 || connect(agent, (struct sockaddr *)&address, sizeof(address)) != 0) {
        perror(path);
        return -1;
    }
    return agent;
}

int main(int argc, char **argv)
{
    int agent = connected(argc > 1 ? argv[1] : "/run/understudy/readings.stream.sock");
    FILE *answers = agent < 0 ? NULL : fdopen(agent, "r");
    long count = setting("COUNT", -1);
    char answer[512];
    double load;

    if (answers == NULL)
        return 1;
    dprintf(agent, "ack\n");
    while (count-- != 0) {
        if (getloadavg(&load, 1) != 1)
            return 1;
        dprintf(agent, "board/load/c %.2f\n", load);
        if (fgets(answer, sizeof(answer), answers) == NULL) {
            fputs("the agent has ended\n", stderr);
            return 1;
        }
        /* "ok spooled", or what is wrong with the line. */
        fputs(answer, stdout);
        sleep((unsigned)setting("PAUSE", 1));
    }
    return 0;
}
