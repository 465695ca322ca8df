#!/usr/bin/env python3
"""A slow link between two network namespaces, in user space: for kernels without netem.

Each namespace gets a TUN device; every packet that one of them sends is kept for the delay and then
given to the other. Needs root, the ip command and /dev/net/tun; the namespaces exist already.

usage: relay.py NAMESPACE_A ADDRESS_A NAMESPACE_B ADDRESS_B DELAY_MS

The delay is that of one direction. Prints 'ready' when packets can pass. Ends when its stdin is
closed, so that it never outlives whoever started it; the devices go with it.
"""
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque

DEVICE = 'kvs0'
TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000
CLONE_NEWNET = 0x40000000
PACKET_BYTES_MAX = 65536
"""Packets that wait in one direction; more are dropped, as a router would."""
QUEUE_PACKETS_MAX = 20000
"""Read at once before the other direction has its turn."""
READS_MAX = 64

libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace_fd):
    if libc.setns(namespace_fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), 'setns')


def open_device(namespace, address, other):
    """Makes the TUN device in the namespace and gives its file descriptor."""
    home = os.open('/proc/self/ns/net', os.O_RDONLY)
    there = os.open('/run/netns/' + namespace, os.O_RDONLY)
    try:
        enter(there)
        device = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack('16sH22x', DEVICE.encode(), IFF_TUN_WITHOUT_HEADER))
        run = subprocess.check_call
        run(['ip', 'address', 'add', address + '/32', 'peer', other, 'dev', DEVICE])
        run(['ip', 'link', 'set', DEVICE, 'up'])
        return device
    finally:
        enter(home)
        os.close(home)
        os.close(there)


def take(device, queue, due):
    """Reads what has come in and puts it into the queue, to be given on at `due`."""
    for _ in range(READS_MAX):
        try:
            packet = os.read(device, PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        if len(queue) < QUEUE_PACKETS_MAX:
            queue.append((due, packet))


def give(device, queue, now):
    while queue and queue[0][0] <= now:
        _, packet = queue.popleft()
        try:
            os.write(device, packet)
        except OSError:
            pass  # a full or a vanished device loses packets, as a cable does


def main():
    namespace_a, address_a, namespace_b, address_b, delay_ms = sys.argv[1:]
    delay = float(delay_ms) / 1000
    a = open_device(namespace_a, address_a, address_b)
    b = open_device(namespace_b, address_b, address_a)
    # All packets of a direction wait equally long, so its queue is in order.
    to_b, to_a = deque(), deque()
    print('ready', flush=True)
    while True:
        due = [queue[0][0] for queue in (to_a, to_b) if queue]
        timeout = max(0, min(due) - time.monotonic()) if due else None
        readable, _, _ = select.select([a, b, sys.stdin], [], [], timeout)
        now = time.monotonic()
        if sys.stdin in readable and os.read(sys.stdin.fileno(), 4096) == b'':
            return
        if a in readable:
            take(a, to_b, now + delay)
        if b in readable:
            take(b, to_a, now + delay)
        now = time.monotonic()
        give(a, to_a, now)
        give(b, to_b, now)


try:
    main()
except KeyboardInterrupt:
    pass  # whoever started it ends in the same way
