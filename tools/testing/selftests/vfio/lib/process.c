// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/wait.h>

#include <libvfio.h>

void process_start(struct process *process, int (*fn)(int socket))
{
	int sockets[2];

	VFIO_ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
				  sockets), 0);
	process->pid = fork();
	VFIO_ASSERT_GE(process->pid, 0);
	if (!process->pid) {
		close(sockets[0]);
		_exit(fn(sockets[1]));
	}

	close(sockets[1]);
	process->socket = sockets[0];
}

int process_wait(struct process *process)
{
	int status;

	VFIO_ASSERT_EQ(waitpid(process->pid, &status, 0), process->pid);
	close(process->socket);

	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void socket_send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));

	VFIO_ASSERT_EQ(sendmsg(socket, &msg, MSG_NOSIGNAL), 1);
}

int socket_recv_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	int fd;

	VFIO_ASSERT_EQ(recvmsg(socket, &msg, MSG_CMSG_CLOEXEC), 1);
	cmsg = CMSG_FIRSTHDR(&msg);
	VFIO_ASSERT_NOT_NULL(cmsg);
	VFIO_ASSERT_EQ(cmsg->cmsg_type, SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));

	return fd;
}

void socket_send(int socket, int value)
{
	VFIO_ASSERT_EQ(send(socket, &value, sizeof(value), MSG_NOSIGNAL),
		       sizeof(value));
}

int socket_recv(int socket)
{
	int value;

	VFIO_ASSERT_EQ(recv(socket, &value, sizeof(value), 0), sizeof(value));
	return value;
}
