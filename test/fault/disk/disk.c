/*
 * Loaded before libc (LD_PRELOAD): writes down every change of the files below one folder, in the order in
 * which it happened over all processes, so that the state after a power cut at any moment can be made from
 * it (image.ts); and makes the disk slow, and the network lossy.
 *
 *   KVS_DISK_ROOT     the folder; files elsewhere are left alone
 *   KVS_DISK_JOURNAL  the journal, appended to with one writev for each record (the kernel orders them)
 *   KVS_DISK_CONTROL  three 32-bit numbers, mapped: microseconds that each sync and each write is held up, and
 *                     how many of 1000 datagrams are lost, each way; 1000 cuts the process off
 *
 * A write is noted when it is done. A sync is noted when it begins and when it is done: what was noted before
 * its beginning is on disk from its end on; nothing else is promised. Not followed: stdio streams (only
 * RocksDB's own text log is written by one), and writes through a shared mapping, which are noted as such so that the
 * reader can refuse the journal.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, TRUNCATE, WRITE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, LINK, MKDIR, RMDIR, ALLOCATE, MAPPED };

struct record {
  uint32_t size; /* of all of it */
  uint32_t type; /* with 'kv' in its upper half */
  uint64_t nanoseconds;
  uint64_t inode;
  uint64_t a, b;
  uint32_t pid;
  uint32_t path_size;
} __attribute__((packed));

#define FILES_MAX 65536
static uint64_t inode_of[FILES_MAX]; /* 0: not below the folder */
static char root[PATH_MAX];
static size_t root_size;
static int journal = -1;
static volatile uint32_t *control;
static uint64_t syncs;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
  const char *folder = getenv("KVS_DISK_ROOT"), *path = getenv("KVS_DISK_JOURNAL");
  const char *slow = getenv("KVS_DISK_CONTROL");
  if (slow) {
    int fd = REAL(open)(slow, O_RDONLY | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : REAL(mmap)(0, 12, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) abort();
    control = at;
  }
  if (!folder) return;
  if (!realpath(folder, root)) abort();
  root_size = strlen(root);
  if (!path) return;
  journal = REAL(open)(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (journal < 0) abort();
}

/* True when the path lies below the folder; then it is given from the folder on. */
static int below(int at, const char *path, char *out) {
  char whole[PATH_MAX * 2];
  if (!root_size) return 0;
  if (path[0] == '/' || at != AT_FDCWD) {
    if (path[0] != '/') return 0;
    strncpy(whole, path, sizeof whole - 1);
    whole[sizeof whole - 1] = 0;
  } else {
    if (!getcwd(whole, PATH_MAX)) return 0;
    strcat(whole, "/");
    strncat(whole, path, PATH_MAX);
  }
  if (strncmp(whole, root, root_size) != 0 || whole[root_size] != '/') return 0;
  size_t n = 0;
  for (char *from = whole + root_size; *from; from++) {
    if (*from == '/' && (from[1] == '/' || from[1] == 0)) continue;
    if (n < PATH_MAX - 1) out[n++] = *from;
  }
  out[n] = 0;
  return 1;
}

static void note(uint32_t type, uint64_t inode, uint64_t a, uint64_t b, const char *path,
                 const struct iovec *data, int count, size_t size) {
  if (journal < 0) return;
  int saved = errno;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  struct record head = {0};
  struct iovec parts[64];
  int n = 0;
  head.type = type | 0x6b760000u;
  head.nanoseconds = (uint64_t)now.tv_sec * 1000000000ull + now.tv_nsec;
  head.inode = inode;
  head.a = a;
  head.b = b;
  head.pid = getpid();
  head.path_size = path ? strlen(path) : 0;
  head.size = sizeof head + head.path_size + size;
  parts[n++] = (struct iovec){&head, sizeof head};
  if (head.path_size) parts[n++] = (struct iovec){(void *)path, head.path_size};
  size_t left = size;
  for (int i = 0; i < count && left; i++) {
    size_t take = data[i].iov_len < left ? data[i].iov_len : left;
    if (n == 64) abort();
    parts[n++] = (struct iovec){data[i].iov_base, take};
    left -= take;
  }
  ssize_t done = REAL(writev)(journal, parts, n);
  if (done != (ssize_t)head.size) abort();
  errno = saved;
}

static uint64_t watched(int fd) { return fd >= 0 && fd < FILES_MAX ? inode_of[fd] : 0; }

static void hold(int which) {
  if (!control || !control[which]) return;
  struct timespec time = {control[which] / 1000000, (control[which] % 1000000) * 1000l};
  nanosleep(&time, 0);
}

static int opened(int at, const char *path, int flags, mode_t mode,
                  int (*really)(int, const char *, int, mode_t)) {
  char name[PATH_MAX];
  if (!below(at, path, name)) {
    int fd = really(at, path, flags, mode);
    if (fd >= 0 && fd < FILES_MAX) inode_of[fd] = 0;
    return fd;
  }
  struct stat before;
  int existed = !(flags & O_CREAT) || stat(path, &before) == 0;
  int fd = really(at, path, flags, mode);
  if (fd < 0) return fd;
  if (fd >= FILES_MAX) abort();
  struct stat now;
  if (fstat(fd, &now) != 0) abort();
  inode_of[fd] = now.st_ino;
  if (!existed) note(CREATE, now.st_ino, mode, 0, name, 0, 0, 0);
  else if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) note(TRUNCATE, now.st_ino, 0, 0, name, 0, 0, 0);
  return fd;
}

static int really_open(int at, const char *path, int flags, mode_t mode) {
  (void)at;
  return REAL(open)(path, flags, mode);
}
static int really_openat(int at, const char *path, int flags, mode_t mode) {
  return REAL(openat)(at, path, flags, mode);
}

#define MODE(last) \
  mode_t mode = 0; \
  if (last & (O_CREAT | __O_TMPFILE)) { va_list list; va_start(list, last); mode = va_arg(list, int); va_end(list); }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode, really_open); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode, really_open); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode, really_openat); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode, really_openat); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, really_open); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
  if (fd == journal && fd >= 0) { errno = EBADF; return -1; }
  if (fd >= 0 && fd < FILES_MAX) inode_of[fd] = 0;
  return REAL(close)(fd);
}

static void wrote(int fd, uint64_t inode, off_t at, const struct iovec *data, int count, ssize_t size) {
  if (size <= 0) return;
  if (at < 0) at = lseek(fd, 0, SEEK_CUR) - size;
  note(WRITE, inode, at, 0, 0, data, count, size);
}

ssize_t write(int fd, const void *data, size_t size) {
  uint64_t inode = watched(fd);
  if (inode) hold(1);
  ssize_t n = REAL(write)(fd, data, size);
  struct iovec one = {(void *)data, size};
  if (inode) wrote(fd, inode, -1, &one, 1, n);
  return n;
}

ssize_t writev(int fd, const struct iovec *data, int count) {
  uint64_t inode = watched(fd);
  if (inode) hold(1);
  ssize_t n = REAL(writev)(fd, data, count);
  if (inode) wrote(fd, inode, -1, data, count, n);
  return n;
}

static ssize_t placed(int fd, const void *data, size_t size, off_t at) {
  uint64_t inode = watched(fd);
  if (inode) hold(1);
  ssize_t n = REAL(pwrite)(fd, data, size, at);
  struct iovec one = {(void *)data, size};
  if (inode) wrote(fd, inode, at, &one, 1, n);
  return n;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return placed(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return placed(fd, data, size, at); }

static ssize_t placed_v(int fd, const struct iovec *data, int count, off_t at) {
  uint64_t inode = watched(fd);
  if (inode) hold(1);
  ssize_t n = REAL(pwritev)(fd, data, count, at);
  if (inode) wrote(fd, inode, at, data, count, n);
  return n;
}
ssize_t pwritev(int fd, const struct iovec *data, int count, off_t at) { return placed_v(fd, data, count, at); }
ssize_t pwritev64(int fd, const struct iovec *data, int count, off_t at) { return placed_v(fd, data, count, at); }

static int synced(int fd, int (*really)(int)) {
  uint64_t inode = watched(fd), id = 0;
  if (inode) {
    id = __atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST);
    note(SYNC_BEGIN, inode, id, 0, 0, 0, 0, 0);
    hold(0);
  }
  int result = really(fd);
  if (inode && result == 0) note(SYNC_END, inode, id, 0, 0, 0, 0, 0);
  return result;
}
int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

static int sized(int fd, off_t size) {
  int result = REAL(ftruncate)(fd, size);
  uint64_t inode = watched(fd);
  if (inode && result == 0) note(TRUNCATE, inode, size, 0, 0, 0, 0, 0);
  return result;
}
int ftruncate(int fd, off_t size) { return sized(fd, size); }
int ftruncate64(int fd, off_t size) { return sized(fd, size); }

static int allocated(int fd, int mode, off_t at, off_t size) {
  int result = REAL(fallocate)(fd, mode, at, size);
  uint64_t inode = watched(fd);
  if (inode && result == 0) note(ALLOCATE, inode, at + size, mode, 0, 0, 0, 0);
  return result;
}
int fallocate(int fd, int mode, off_t at, off_t size) { return allocated(fd, mode, at, size); }
int fallocate64(int fd, int mode, off_t at, off_t size) { return allocated(fd, mode, at, size); }
int posix_fallocate(int fd, off_t at, off_t size) { return allocated(fd, 0, at, size) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off_t at, off_t size) { return posix_fallocate(fd, at, size); }

static void *mapped(void *want, size_t size, int protection, int flags, int fd, off_t at) {
  void *result = REAL(mmap)(want, size, protection, flags, fd, at);
  uint64_t inode = watched(fd);
  if (inode && (protection & PROT_WRITE) && (flags & MAP_SHARED)) note(MAPPED, inode, 0, 0, 0, 0, 0, 0);
  return result;
}
void *mmap(void *want, size_t size, int protection, int flags, int fd, off_t at) { return mapped(want, size, protection, flags, fd, at); }
void *mmap64(void *want, size_t size, int protection, int flags, int fd, off_t at) { return mapped(want, size, protection, flags, fd, at); }

/* Two names are sent as one path with a newline between them. */
static void note_two(uint32_t type, const char *from, const char *to) {
  char a[PATH_MAX], b[PATH_MAX], both[PATH_MAX * 2 + 2];
  int first = below(AT_FDCWD, from, a), second = below(AT_FDCWD, to, b);
  if (!first && !second) return;
  if (!first || !second) abort(); /* across the border: not followed */
  strcpy(both, a);
  strcat(both, "\n");
  strcat(both, b);
  note(type, 0, 0, 0, both, 0, 0, 0);
}

int rename(const char *from, const char *to) {
  int result = REAL(rename)(from, to);
  if (result == 0) note_two(RENAME, from, to);
  return result;
}
int link(const char *from, const char *to) {
  int result = REAL(link)(from, to);
  if (result == 0) note_two(LINK, from, to);
  return result;
}
int unlink(const char *path) {
  char name[PATH_MAX];
  int result = REAL(unlink)(path);
  if (result == 0 && below(AT_FDCWD, path, name)) note(UNLINK, 0, 0, 0, name, 0, 0, 0);
  return result;
}
int rmdir(const char *path) {
  char name[PATH_MAX];
  int result = REAL(rmdir)(path);
  if (result == 0 && below(AT_FDCWD, path, name)) note(RMDIR, 0, 0, 0, name, 0, 0, 0);
  return result;
}
int mkdir(const char *path, mode_t mode) {
  char name[PATH_MAX];
  int result = REAL(mkdir)(path, mode);
  struct stat now;
  if (result == 0 && below(AT_FDCWD, path, name)) {
    if (stat(path, &now) != 0) abort();
    note(MKDIR, now.st_ino, mode, 0, name, 0, 0, 0);
  }
  return result;
}

/* Datagrams: only those of IPv4; a unix socket is no network. */
static int lost(void) {
  static __thread uint32_t state;
  if (!control || !control[2]) return 0;
  if (!state) state = (uint32_t)(uintptr_t)&state ^ (uint32_t)getpid() ^ 0x9e3779b9u;
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % 1000 < control[2];
}

static int is_datagram(int fd) {
  int value;
  socklen_t size = sizeof value;
  int saved = errno;
  int found = getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) == 0 && value == SOCK_DGRAM;
  size = sizeof value;
  found = found && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &size) == 0 && value == AF_INET;
  errno = saved;
  return found;
}

static int drops(int fd) { return control && control[2] && is_datagram(fd); }

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  if (drops(fd) && lost()) {
    size_t size = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) size += message->msg_iov[i].iov_len;
    return size;
  }
  return REAL(sendmsg)(fd, message, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  struct msghdr before = *message;
  for (;;) {
    ssize_t n = REAL(recvmsg)(fd, message, flags);
    if (n < 0 || !drops(fd) || !lost()) return n;
    *message = before;
  }
}

/* One by one: libuv takes a part for an answer. */
int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
  if (!drops(fd)) return REAL(sendmmsg)(fd, messages, count, flags);
  ssize_t n = count == 0 ? 0 : sendmsg(fd, &messages[0].msg_hdr, flags);
  if (n < 0) return -1;
  if (count) messages[0].msg_len = n;
  return count ? 1 : 0;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout) {
  if (!drops(fd)) return REAL(recvmmsg)(fd, messages, count, flags, timeout);
  if (!count) return 0;
  ssize_t n = recvmsg(fd, &messages[0].msg_hdr, flags);
  if (n < 0) return -1;
  messages[0].msg_len = n;
  return 1;
}

/* libuv makes some of its calls this way. */
long syscall(long number, ...) {
  va_list list;
  long a[6];
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (number == SYS_sendmmsg) return sendmmsg(a[0], (struct mmsghdr *)a[1], a[2], a[3]);
  if (number == SYS_recvmmsg) return recvmmsg(a[0], (struct mmsghdr *)a[1], a[2], a[3], (struct timespec *)a[4]);
  return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
