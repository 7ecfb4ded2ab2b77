/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PROCESS_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PROCESS_H

#include <sys/types.h>

/*
 * A process that shares nothing with the test but a socket: it is forked before
 * anything is opened, or closes what it inherited. What @fn returns is its exit
 * status.
 */
struct process {
	pid_t pid;
	int socket;
};

void process_start(struct process *process, int (*fn)(int socket));

/* Return: the exit status, or the negative number of the signal it died of. */
int process_wait(struct process *process);

/* SCM_RIGHTS */
void socket_send_fd(int socket, int fd);
int socket_recv_fd(int socket);

/* A number is sent and received, so that nobody has to sleep. */
void socket_send(int socket, int value);
int socket_recv(int socket);

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_PROCESS_H */
