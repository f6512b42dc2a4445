"""Runs a program in a pseudo-terminal of a given size: ROWS COLUMNS PROGRAM ARGUMENT...

What the program writes goes to standard output; what comes on standard input is typed. The end of standard input ends
the program. The exit code is that of the program.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios

rows, columns = int(sys.argv[1]), int(sys.argv[2])
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execv(sys.argv[3], sys.argv[3:])
inputs = [terminal, 0]
while True:
    ready, _, _ = select.select(inputs, [], [])
    if terminal in ready:
        try:
            written = os.read(terminal, 65536)
        except OSError:
            break
        if not written:
            break
        os.write(1, written)
    if 0 in ready:
        typed = os.read(0, 1024)
        if typed:
            os.write(terminal, typed)
        else:
            os.kill(child, signal.SIGKILL)
            inputs.remove(0)
_, status = os.waitpid(child, 0)
sys.exit(max(os.waitstatus_to_exitcode(status), 0))
