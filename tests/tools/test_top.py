#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_top.py VDISKCTL VDISKD - "vdiskctl top" on a terminal of its own: what it shows, its keys, and the terminal afterwards."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

CTL, DAEMON = (os.path.realpath(p) for p in sys.argv[1:3])
HANG = 60
SCREEN_ON, SCREEN_OFF = "\x1b[?1049h", "\x1b[?25h\x1b[?1049l"


class Top:
    """The command on a terminal of 80 columns and @rows lines."""

    def __init__(self, rows, *options):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.text = ""
        self.proc = subprocess.Popen([CTL, "--control=c.sock", "top", *options], stdin=slave, stdout=slave,
                                     stderr=subprocess.PIPE, preexec_fn=self.own_terminal)

    @staticmethod
    def own_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.text += os.read(self.master, 65536).decode()
            return True
        return False

    def wait_for(self, word, times=1):
        deadline = time.monotonic() + HANG
        while self.text.count(word) < times:
            if time.monotonic() > deadline:
                sys.exit(f"no {word!r} ({times} times) in {self.text!r}")
            self.read(1)

    def key(self, key):
        os.write(self.master, key.encode())

    def end(self, status):
        deadline = time.monotonic() + HANG
        while self.proc.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        while self.read(0):
            pass
        error = self.proc.stderr.read().decode()
        assert self.proc.returncode == status, (self.proc.returncode, error, self.text)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is not as it was"
        assert self.text.count(SCREEN_ON) == 1 and self.text.endswith(SCREEN_OFF), self.text
        os.close(self.slave)
        os.close(self.master)
        return error

    def last_picture(self):
        """Its lines, without escapes."""
        whole = self.text.split("\x1b[H")[-1]
        return re.sub("\x1b\\[[0-9?]*[a-zA-Z]", "", whole).split("\r\n")


def start_daemon():
    disks = [f"--disk=id=disk-{i:02},format=null,size={i + 1}G,socket=s{i}" for i in range(12)]
    proc = subprocess.Popen([DAEMON, "--state-dir=none", "--log-level=warning", "--control=c.sock", *disks])
    deadline = time.monotonic() + HANG
    while subprocess.run([CTL, "--control=c.sock", "list"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return proc


def test_keys():
    top = Top(10, "-d", "0.2")
    top.wait_for("disk-05", 2)  # six disks fit; and the next picture comes by itself
    assert "... and 6 more" in top.text and "disk-06" not in top.text
    assert "\x1b[7m  IOPS" in top.text
    top.key("n")
    top.wait_for("\x1b[7mDISK")
    top.key("n")  # the other way round
    top.wait_for("disk-11")
    top.key("<")
    top.wait_for("\x1b[7mFLAGS")
    top.key("+")
    top.wait_for("every 0.4s")
    for line in top.last_picture():
        assert len(line) <= 80, line
    top.key("q")
    assert top.end(0) == ""


def test_size_changes():
    top = Top(10, "--interval=600")
    top.wait_for("... and 6 more")
    fcntl.ioctl(top.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    top.wait_for("F failed")
    assert "disk-11" in top.text
    top.key(" ")  # does not wait ten minutes
    top.wait_for("\x1b[H", 3)
    top.key("q")
    assert top.end(0) == ""


def test_ends():
    for how in ("\x03", signal.SIGTERM, signal.SIGHUP):
        top = Top(24, "-d", "600")
        top.wait_for("F failed")
        if isinstance(how, str):
            top.key(how)
        else:
            top.proc.send_signal(how)
        assert top.end(0) == ""


def test_batch():
    out = subprocess.run([CTL, "--control=c.sock", "top", "-b", "-n", "2", "-d", "0.1", "--sort=name"], capture_output=True,
                         check=True, stdin=subprocess.DEVNULL).stdout.decode()
    assert "\x1b" not in out and "\r" not in out
    assert out.count("DISK ") == 2 and out.count("disk-11 ") == 2 and out.index("disk-00") < out.index("disk-11")
    assert all(len(line) <= 80 for line in out.split("\n")), out
    bad = subprocess.run([CTL, "--control=c.sock", "top"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert bad.returncode == 1 and b"wants a terminal" in bad.stderr and not bad.stdout


def test_daemon_goes(daemon):
    top = Top(24, "-d", "0.2")
    top.wait_for("F failed")
    daemon.kill()
    daemon.wait()
    error = top.end(1)
    assert error.count("\n") == 1 and "daemon" in error, error


with tempfile.TemporaryDirectory(prefix="test_top-") as where:
    os.chdir(where)
    vdiskd = start_daemon()
    try:
        test_keys()
        test_size_changes()
        test_ends()
        test_batch()
        test_daemon_goes(vdiskd)
    finally:
        vdiskd.kill()
        vdiskd.wait()
    os.chdir("/")
