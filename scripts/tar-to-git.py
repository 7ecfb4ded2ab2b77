#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: tar-to-git.py REF MESSAGE < TAR | git fast-import --done

Make one commit of the kernel source in a tar archive, without its top directory,
as a stream for git: no file is written, which takes longer than all the rest,
and longer still where other files were removed just before.

The same archive gives the same commit id, wherever and whenever.

Exit status: 0, or 1 and one sentence on stderr if the archive is damaged or holds
no kernel. The stream has no end then, and git makes no commit of it.
"""

import os
import shutil
import sys
import tarfile

WHO = 'Linux source package <root@localhost> 1700000000 +0000'

# Debian ignores everything at the top for its own packaging, which would hide new
# files from git.
NOT_IGNORED = b'# Debian packaging: ignore everything'


class Member(tarfile.TarInfo):
    """A header that is damaged is no end of the archive."""

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f'{error}, after {archive.offset} bytes') from error


def ignored(data):
    lines = data.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if line.startswith(NOT_IGNORED):
            return b''.join(lines[:i])
    return data


def quoted(path):
    path = path.encode(errors='surrogateescape')
    if path.startswith(b'"') or b'\n' in path:
        for char, escape in ((b'\\', b'\\\\'), (b'"', b'\\"'), (b'\n', b'\\n')):
            path = path.replace(char, escape)
        path = b'"' + path + b'"'
    return path


def blob(out, mode, path, data):
    out.write(b'M %s inline %s\ndata %d\n%s\n' % (mode, quoted(path), len(data), data))


def convert(archive, out, ref, message):
    message = message.encode() + b'\n'
    out.write(b'commit %s\nauthor %s\ncommitter %s\ndata %d\n%s\n' %
              (ref.encode(), WHO.encode(), WHO.encode(), len(message), message))
    kernel = False
    for member in archive:
        path = member.name.removeprefix('./').partition('/')[2]
        if member.isdir() or not path:
            continue
        kernel = kernel or path == 'MAINTAINERS'
        if member.issym():
            blob(out, b'120000', path,
                 member.linkname.encode(errors='surrogateescape'))
        elif member.isfile():
            mode = b'100755' if member.mode & 0o100 else b'100644'
            source = archive.extractfile(member)
            if path == '.gitignore':
                blob(out, mode, path, ignored(source.read()))
                continue
            out.write(b'M %s inline %s\ndata %d\n' % (mode, quoted(path), member.size))
            shutil.copyfileobj(source, out, 1 << 20)
            out.write(b'\n')
        else:
            sys.exit(f'error: {member.name}: neither a file nor a symbolic link')
    if not kernel:
        sys.exit('error: there is no MAINTAINERS in it')


def main():
    if '-h' in sys.argv[1:2] or '--help' in sys.argv[1:2]:
        print(__doc__, end='')
        return
    if len(sys.argv) != 3 or sys.argv[1].startswith('-'):
        sys.exit(__doc__)
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode='r|', tarinfo=Member) as archive:
            convert(archive, sys.stdout.buffer, *sys.argv[1:])
        # What fills the archive up: who writes it must not find the pipe closed.
        while sys.stdin.buffer.read(1 << 20):
            pass
        sys.stdout.buffer.write(b'done\n')
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # git has said why.
        os._exit(1)
    except (tarfile.TarError, EOFError, OSError) as error:
        sys.exit(f'error: {error}')


main()
