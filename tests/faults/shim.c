/* Preloaded: counts the system calls on paths below a folder, and lets one of them fail or kill the process.

   fault_arm says below which folder, which call (from 1), with which error (0: SIGKILL), whether two folders can be
   exchanged, and into which file each call is written down as "name path". */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static size_t root_length;
static atomic_int count;
static int target_call;
static int target_error;
static int can_exchange = 1;
static int journal = -1;
static atomic_int armed;

void fault_arm(const char *folder, int call, int error, int exchange, const char *file) {
  strncpy(root, folder, sizeof root - 1);
  root_length = strlen(root);
  target_call = call;
  target_error = error;
  can_exchange = exchange;
  journal = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  count = 0;
  armed = 1;
}

__attribute__((constructor)) static void arm_by_environment(void) {
  const char *folder = getenv("FAULT_ROOT");
  if (folder != NULL)
    fault_arm(folder, atoi(getenv("FAULT_CALL")), atoi(getenv("FAULT_ERROR")), 1, getenv("FAULT_JOURNAL"));
}

static int is_below(const char *path) {
  return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* 1 where the call has to fail, with errno set. */
static int fails(const char *name, int folder, const char *path) {
  char whole[2 * PATH_MAX], link[64], line[3 * PATH_MAX];
  if (!armed)
    return 0;
  int before = errno;
  whole[0] = 0;
  if (path == NULL || path[0] != '/') {
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, whole, PATH_MAX);
    whole[length > 0 ? length : 0] = 0;
    if (path != NULL)
      strcat(strcat(whole, "/"), path);
  } else
    strncat(whole, path, PATH_MAX);
  errno = before;
  if (!is_below(whole))
    return 0;
  int number = atomic_fetch_add(&count, 1) + 1;
  int length = snprintf(line, sizeof line, "%s %s\n", name, whole);
  syscall(SYS_write, journal, line, length);
  errno = before;
  if (number != target_call)
    return 0;
  if (target_error == 0) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
      pause();
  }
  errno = target_error;
  return 1;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (real == NULL) \
    real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define CALL(type, name, label, folder, path, failure, parameters, arguments, ...) \
  type name parameters { \
    REAL(type, name, __VA_ARGS__); \
    if (fails(label, folder, path)) \
      return failure; \
    return real arguments; \
  }

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(int, name, const char *, int, ...); \
    va_list rest; \
    va_start(rest, flags); \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest); \
    if (fails(flags & (O_CREAT | O_TRUNC) ? "create" : "open", AT_FDCWD, path)) \
      return -1; \
    return real(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    REAL(int, name, int, const char *, int, ...); \
    va_list rest; \
    va_start(rest, flags); \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest); \
    if (fails(flags & (O_CREAT | O_TRUNC) ? "create" : "open", folder, path)) \
      return -1; \
    return real(folder, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

CALL(ssize_t, read, "read", file, NULL, -1, (int file, void *data, size_t size), (file, data, size), int, void *, size_t)
CALL(ssize_t, write, "write", file, NULL, -1, (int file, const void *data, size_t size), (file, data, size), int, const void *, size_t)
CALL(ssize_t, pwrite, "write", file, NULL, -1, (int file, const void *data, size_t size, off_t at), (file, data, size, at), int, const void *, size_t, off_t)
CALL(ssize_t, pwrite64, "write", file, NULL, -1, (int file, const void *data, size_t size, off64_t at), (file, data, size, at), int, const void *, size_t, off64_t)
CALL(ssize_t, writev, "write", file, NULL, -1, (int file, const struct iovec *parts, int number), (file, parts, number), int, const struct iovec *, int)
CALL(ssize_t, sendfile, "write", file, NULL, -1, (int file, int source, off_t *at, size_t size), (file, source, at, size), int, int, off_t *, size_t)
CALL(ssize_t, sendfile64, "write", file, NULL, -1, (int file, int source, off64_t *at, size_t size), (file, source, at, size), int, int, off64_t *, size_t)
CALL(ssize_t, copy_file_range, "write", file, NULL, -1, (int source, off64_t *from, int file, off64_t *to, size_t size, unsigned flags), (source, from, file, to, size, flags), int, off64_t *, int, off64_t *, size_t, unsigned)
CALL(int, fsync, "fsync", file, NULL, -1, (int file), (file), int)
CALL(int, fdatasync, "fsync", file, NULL, -1, (int file), (file), int)
CALL(int, ftruncate, "ftruncate", file, NULL, -1, (int file, off_t size), (file, size), int, off_t)
CALL(int, ftruncate64, "ftruncate", file, NULL, -1, (int file, off64_t size), (file, size), int, off64_t)
CALL(int, flock, "flock", file, NULL, -1, (int file, int how), (file, how), int, int)
CALL(int, chmod, "chmod", AT_FDCWD, path, -1, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
CALL(int, fchmod, "chmod", file, NULL, -1, (int file, mode_t mode), (file, mode), int, mode_t)
CALL(int, fchmodat, "chmod", folder, path, -1, (int folder, const char *path, mode_t mode, int flags), (folder, path, mode, flags), int, const char *, mode_t, int)
CALL(int, mkdir, "mkdir", AT_FDCWD, path, -1, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
CALL(int, mkdirat, "mkdir", folder, path, -1, (int folder, const char *path, mode_t mode), (folder, path, mode), int, const char *, mode_t)
CALL(int, rmdir, "rmdir", AT_FDCWD, path, -1, (const char *path), (path), const char *)
CALL(int, unlink, "unlink", AT_FDCWD, path, -1, (const char *path), (path), const char *)
CALL(int, unlinkat, "unlink", folder, path, -1, (int folder, const char *path, int flags), (folder, path, flags), int, const char *, int)
CALL(int, rename, "rename", AT_FDCWD, from, -1, (const char *from, const char *to), (from, to), const char *, const char *)
CALL(int, renameat, "rename", folder, from, -1, (int folder, const char *from, int other, const char *to), (folder, from, other, to), int, const char *, int, const char *)
CALL(DIR *, opendir, "list", AT_FDCWD, path, NULL, (const char *path), (path), const char *)
CALL(DIR *, fdopendir, "list", file, NULL, NULL, (int file), (file), int)
CALL(int, stat, "stat", AT_FDCWD, path, -1, (const char *path, struct stat *result), (path, result), const char *, struct stat *)
CALL(int, stat64, "stat", AT_FDCWD, path, -1, (const char *path, struct stat64 *result), (path, result), const char *, struct stat64 *)
CALL(int, lstat, "stat", AT_FDCWD, path, -1, (const char *path, struct stat *result), (path, result), const char *, struct stat *)
CALL(int, lstat64, "stat", AT_FDCWD, path, -1, (const char *path, struct stat64 *result), (path, result), const char *, struct stat64 *)
CALL(int, fstat, "stat", file, NULL, -1, (int file, struct stat *result), (file, result), int, struct stat *)
CALL(int, fstat64, "stat", file, NULL, -1, (int file, struct stat64 *result), (file, result), int, struct stat64 *)
CALL(int, fstatat, "stat", folder, path, -1, (int folder, const char *path, struct stat *result, int flags), (folder, path, result, flags), int, const char *, struct stat *, int)
CALL(int, fstatat64, "stat", folder, path, -1, (int folder, const char *path, struct stat64 *result, int flags), (folder, path, result, flags), int, const char *, struct stat64 *, int)

int renameat2(int folder, const char *from, int other, const char *to, unsigned flags) {
  REAL(int, renameat2, int, const char *, int, const char *, unsigned);
  if (fails("exchange", folder, from))
    return -1;
  if (!can_exchange) {
    errno = EINVAL;
    return -1;
  }
  return real(folder, from, other, to, flags);
}

/* The file is closed all the same, as the system does it. */
int close(int file) {
  REAL(int, close, int);
  int failure = fails("close", file, NULL) ? errno : 0;
  int status = real(file);
  if (failure == 0)
    return status;
  errno = failure;
  return -1;
}

static void *map(void *(*real)(void *, size_t, int, int, int, off_t), void *place, size_t size, int access, int flags,
                 int file, off_t at) {
  if (file >= 0 && fails("map", file, NULL))
    return MAP_FAILED;
  return real(place, size, access, flags, file, at);
}

void *mmap(void *place, size_t size, int access, int flags, int file, off_t at) {
  REAL(void *, mmap, void *, size_t, int, int, int, off_t);
  return map(real, place, size, access, flags, file, at);
}

void *mmap64(void *place, size_t size, int access, int flags, int file, off64_t at) {
  REAL(void *, mmap64, void *, size_t, int, int, int, off_t);
  return map(real, place, size, access, flags, file, at);
}
