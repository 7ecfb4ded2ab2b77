/* SPDX-License-Identifier: GPL-2.0 */
/* Talking with programs of the host's by lines of text */
#ifndef VFIO_QEMU_GUEST_LINES_H
#define VFIO_QEMU_GUEST_LINES_H

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Where init puts them */
#define HOST "/host"

/* What comes in on a file descriptor */
struct lines {
	int fd;
	size_t len;
	char buf[8192];
};

static inline long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* When the time is over for something, in a VM that may be slow */
static inline long end_ms(int seconds)
{
	const char *slow = getenv("VM_SLOW");

	return now_ms() + seconds * 1000L * (slow ? atoi(slow) : 1);
}

/* The next line. False at the end of the file or of the time. */
static inline bool line_get(struct lines *lines, char *line, size_t size, int seconds)
{
	long end = end_ms(seconds), left;
	struct pollfd pfd = { .fd = lines->fd, .events = POLLIN };
	size_t len;
	ssize_t ret;
	char *eol;

	while (!(eol = memchr(lines->buf, '\n', lines->len))) {
		left = end - now_ms();
		if (left <= 0 || lines->len == sizeof(lines->buf) ||
		    poll(&pfd, 1, left) <= 0)
			return false;
		ret = read(lines->fd, lines->buf + lines->len,
			   sizeof(lines->buf) - lines->len);
		if (ret <= 0)
			return false;
		lines->len += ret;
	}

	len = eol - lines->buf;
	snprintf(line, size, "%.*s", (int)len, lines->buf);
	line[strcspn(line, "\r")] = '\0';
	lines->len -= len + 1;
	memmove(lines->buf, eol + 1, lines->len);

	return true;
}

#endif /* VFIO_QEMU_GUEST_LINES_H */
