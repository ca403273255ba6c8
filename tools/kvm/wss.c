// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm-lockless-mmu wss: which VMs touch how much of their memory.
 *
 * A pass over a VM's page tables is made once a second, by opening working_set_bitmap in the VM's
 * directory in debugfs.  Windows of more than a second are the union of passes, so a byte is kept
 * for each guest page that was ever touched: how many passes ago that was.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kvm-lockless-mmu.h"

#define PAGE_BYTES	((uint64_t)4096)
#define WORD_PAGES	64
#define WORD_BYTES	(WORD_PAGES / 8)

/* Passes that are told apart: those of the longest window, and a few that came early. */
#define PASSES		64

static const unsigned int windows[] = { 1, 10, 60 };

#define NR_WINDOWS	(sizeof(windows) / sizeof(windows[0]))

struct vm {
	struct vm *next;
	/* The thread that created the VM, and its fd there, as debugfs has them; and its process. */
	int tid, fd, pid;
	char dir[32];
	char name[64];
	/* The directory.  Once it has no links, it is that of a VM that is gone. */
	int dir_fd;
	/* No other wss reads the VM: each pass takes from the others what it finds. */
	bool locked;
	bool seen;
	/* Its file was not there at the last pass: the VM comes or goes, or KVM has no such file. */
	bool no_file;
	/* Why the last pass failed, or NULL. */
	const char *error;
	/* In memslots. */
	uint64_t pages;
	/*
	 * For each gfn, 0 if it was not touched in the last PASSES, or else 1 for the last pass, 2
	 * for the one before, ...
	 */
	uint8_t *age;
	size_t nr_ages;
	/* Passes since the VM is watched without a gap, and when the last of them began. */
	unsigned long passes;
	double began[PASSES + 1];
	/* Pages by age. */
	uint64_t touched[PASSES + 1];
	/* Since the last table. */
	unsigned int reads;
	double cpu;
};

static struct {
	const char *vm, *map;
	unsigned long interval, count;
	bool json;
} options = { .interval = 5 };

static struct vm *vms;
static struct wss_map *map;
/* The VM that the map is of, once there is one. */
static struct vm *map_vm;
static char map_name[sizeof(vms->name) + sizeof(vms->dir) + 4];
/* Since wss began. */
static bool any_read, any_failed, told_of_open;
static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
	(void)signal;
	stop = 1;
}

/* Catches @signal, unless wss was started with the signal ignored, as nohup does. */
static void catch(int signal, const struct sigaction *action)
{
	struct sigaction old;

	if (!sigaction(signal, NULL, &old) && old.sa_handler != SIG_IGN)
		sigaction(signal, action, NULL);
}

static double seconds(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* The process that the thread is of, which KVM does not tell.  @tid if nobody knows. */
static int process_of(int tid)
{
	char path[64], line[256];
	int pid = tid;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	file = fopen(path, "re");
	if (!file)
		return tid;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Tgid: %d", &pid) == 1)
			break;
	}
	fclose(file);
	return pid;
}

/* The value of QEMU's option -name: "NAME", or "guest=NAME" among others. */
static const char *guest_name(char *value)
{
	char *part = strsep(&value, ",");

	if (!strchr(part, '='))
		return part;
	for (; part; part = strsep(&value, ",")) {
		if (!strncmp(part, "guest=", strlen("guest=")))
			return part + strlen("guest=");
	}
	return NULL;
}

/* What QEMU was told to call the VM, or else the name of the process. */
static void get_name(struct vm *vm)
{
	char path[64], line[8192], *arg, *c;
	const char *name = NULL;
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", vm->pid);
	file = fopen(path, "re");
	if (file) {
		size = fread(line, 1, sizeof(line) - 1, file);
		fclose(file);
	}
	line[size] = '\0';
	for (arg = line; arg < line + size && !name; arg += strlen(arg) + 1) {
		if (strcmp(arg, "-name") && strcmp(arg, "--name"))
			continue;
		arg += strlen(arg) + 1;
		if (arg >= line + size)
			break;
		c = arg + strlen(arg);
		name = guest_name(arg);
		arg = c;
	}
	if (!name) {
		snprintf(path, sizeof(path), "/proc/%d/comm", vm->pid);
		file = fopen(path, "re");
		if (file && fgets(line, sizeof(line), file)) {
			line[strcspn(line, "\n")] = '\0';
			name = line;
		}
		if (file)
			fclose(file);
	}
	snprintf(vm->name, sizeof(vm->name), "%.*s", (int)sizeof(vm->name) - 1, name ? name : "?");
	/* Whoever may use /dev/kvm chooses it, for terminals and parsers to read. */
	for (c = vm->name; *c; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
}

/* Is the VM what --vm asks for? */
static bool is_wanted(const struct vm *vm)
{
	char pid[16];

	if (!options.vm)
		return true;
	snprintf(pid, sizeof(pid), "%d", vm->pid);
	return !strcmp(options.vm, pid) || !strcmp(options.vm, vm->dir) || !strcmp(options.vm, vm->name);
}

static void forget_passes(struct vm *vm)
{
	vm->passes = 0;
	if (vm->age)
		munmap(vm->age, vm->nr_ages);
	vm->age = NULL;
	vm->nr_ages = 0;
}

static void drop_vm(struct vm *vm)
{
	if (vm == map_vm) {
		map_vm = NULL;
		stop = 1;
	}
	forget_passes(vm);
	close(vm->dir_fd);
	free(vm);
}

/* Not that of a VM that had the same name before. */
static bool is_gone(const struct vm *vm)
{
	struct stat stat;

	return fstat(vm->dir_fd, &stat) || !stat.st_nlink;
}

static struct vm *find_vm(const char *dir)
{
	struct vm *vm;

	for (vm = vms; vm; vm = vm->next) {
		if (!strcmp(vm->dir, dir) && !is_gone(vm))
			return vm;
	}
	return NULL;
}

static void add_vm(const char *dir, int dir_fd, int tid, int fd)
{
	struct vm *vm = calloc(1, sizeof(*vm)), **at;

	if (!vm)
		die("out of memory");
	vm->tid = tid;
	vm->fd = fd;
	vm->pid = process_of(tid);
	vm->dir_fd = dir_fd;
	vm->seen = true;
	snprintf(vm->dir, sizeof(vm->dir), "%.*s", (int)sizeof(vm->dir) - 1, dir);
	get_name(vm);
	for (at = &vms; *at; at = &(*at)->next) {
		if (tid < (*at)->tid || (tid == (*at)->tid && fd < (*at)->fd))
			break;
	}
	vm->next = *at;
	*at = vm;
}

/* Each VM has a directory TID-FD.  If they cannot be listed, those that are known stay. */
static void find_vms(void)
{
	struct dirent *entry;
	struct vm *vm, **at;
	int tid, fd, dir_fd;
	char rest;
	DIR *dir;

	for (vm = vms; vm; vm = vm->next)
		vm->seen = false;

	dir = opendir(KVM_DEBUGFS);
	/* It comes and goes with kvm_amd or kvm_intel. */
	if (!dir && errno != ENOENT)
		return;
	for (errno = 0; dir && (entry = readdir(dir)); errno = 0) {
		if (sscanf(entry->d_name, "%d-%d%c", &tid, &fd, &rest) != 2 ||
		    strlen(entry->d_name) >= sizeof(vm->dir))
			continue;
		vm = find_vm(entry->d_name);
		if (vm) {
			vm->seen = true;
			continue;
		}
		dir_fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir_fd >= 0) {
			add_vm(entry->d_name, dir_fd, tid, fd);
		} else if (errno != ENOENT) {
			if (!told_of_open)
				fprintf(stderr, "kvm-lockless-mmu: cannot open " KVM_DEBUGFS "/%s: %s\n",
					entry->d_name, strerror(errno));
			told_of_open = any_failed = true;
		}
	}
	if (dir)
		closedir(dir);
	if (errno && dir)
		return;

	for (at = &vms; (vm = *at); ) {
		if (vm->seen) {
			at = &vm->next;
			continue;
		}
		*at = vm->next;
		drop_vm(vm);
	}
}

/* Room for an age for each of @nr gfns.  What was never touched takes no memory. */
static bool resize_ages(struct vm *vm, size_t nr)
{
	void *age;

	if (nr <= vm->nr_ages)
		return true;
	if (vm->age)
		age = mremap(vm->age, vm->nr_ages, nr, MREMAP_MAYMOVE);
	else
		age = mmap(NULL, nr, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (age == MAP_FAILED)
		return false;
	madvise(age, nr, MADV_NOHUGEPAGE);
	vm->age = age;
	vm->nr_ages = nr;
	return true;
}

/* No memslot has the gfns [@gfn, @end) now.  If one has them later, that memory is new. */
static void forget_hole(struct vm *vm, size_t gfn, size_t end)
{
	size_t page = sysconf(_SC_PAGESIZE), from = (gfn + page - 1) / page * page, to = end / page * page;

	if (from >= to) {
		memset(vm->age + gfn, 0, end - gfn);
		return;
	}
	memset(vm->age + gfn, 0, from - gfn);
	madvise(vm->age + from, to - from, MADV_DONTNEED);
	memset(vm->age + to, 0, end - to);
}

/* One pass more: the 64 pages that @age is of got older, but for those in @touched. */
static void age_word(uint64_t *touched_by_age, uint8_t *age, uint64_t touched)
{
	static const uint8_t never[WORD_PAGES];
	unsigned int i;

	if (!touched && !memcmp(age, never, WORD_PAGES))
		return;
	for (i = 0; i < WORD_PAGES; i++) {
		if (touched >> i & 1)
			age[i] = 1;
		else if (age[i])
			age[i] = age[i] < PASSES ? age[i] + 1 : 0;
		touched_by_age[age[i]]++;
	}
}

/* A part of the bitmap without holes: bytes [@offset, @end) of it. */
static bool read_extent(struct vm *vm, int fd, off_t offset, off_t end)
{
	static uint64_t words[8192];
	ssize_t i, size;

	vm->pages += (end - offset) * 8;
	if (vm == map_vm)
		wss_map_memory(map, offset * 8, (end - offset) * 8);

	while (offset < end) {
		size = end - offset < (off_t)sizeof(words) ? end - offset : (off_t)sizeof(words);
		size = pread(fd, words, size, offset);
		if (size <= 0 || size % WORD_BYTES) {
			errno = size < 0 ? errno : EIO;
			return false;
		}
		for (i = 0; i < size / WORD_BYTES; i++, offset += WORD_BYTES) {
			/* Nobody knows when it was touched, but that it was before the first pass. */
			if (!vm->passes)
				continue;
			age_word(vm->touched, vm->age + offset * 8, words[i]);
			if (words[i] && vm == map_vm)
				wss_map_touched(map, offset * 8, __builtin_popcountll(words[i]));
		}
	}
	return true;
}

/* The pass that opening @fd made. */
static bool read_bitmap(struct vm *vm, int fd)
{
	off_t end = lseek(fd, 0, SEEK_END), offset, hole = 0;

	if (end < 0 || !resize_ages(vm, end * 8))
		return false;
	vm->pages = 0;
	memset(vm->touched, 0, sizeof(vm->touched));
	/* ENXIO: no memslot follows. */
	while ((offset = lseek(fd, hole, SEEK_DATA)) >= 0) {
		end = lseek(fd, offset, SEEK_HOLE);
		if (end < 0)
			return false;
		forget_hole(vm, hole * 8, offset * 8);
		if (!read_extent(vm, fd, offset, end))
			return false;
		hole = end;
	}
	if (errno != ENXIO)
		return false;
	forget_hole(vm, hole * 8, vm->nr_ages);
	return true;
}

/* What may be, with its next step, or NULL for a VM that is gone. */
static const char *why(const struct vm *vm, int error)
{
	switch (error) {
	case EBUSY:
		return "another program reads it";
	case ENOENT:
		return !vm->no_file || is_gone(vm) ? NULL :
		       "the KVM that is loaded is an older one: see kvm-lockless-mmu status";
	case ENODEV:
	case EIO:
		return NULL;
	case E2BIG:
		return "its memslots, SMM's included, have more than 32 times the host's memory";
	case EOPNOTSUPP:
		return "KVM runs with npt=0, ept=0 or eptad=0, or the CPU has no A/D bits for EPT";
	default:
		return strerror(error);
	}
}

static void read_failed(struct vm *vm, int error)
{
	/* What others read meanwhile is not known here, so the windows begin anew. */
	forget_passes(vm);
	vm->error = why(vm, error);
	vm->no_file = error == ENOENT;
	if (vm->error)
		any_failed = true;
}

/* A pass over one VM. */
static void read_vm(struct vm *vm)
{
	double cpu, now = seconds(CLOCK_MONOTONIC);
	int fd;

	vm->error = NULL;
	if (!vm->locked && flock(vm->dir_fd, LOCK_EX | LOCK_NB)) {
		vm->error = errno == EWOULDBLOCK ? "another wss reads it" : strerror(errno);
		any_failed = true;
		return;
	}
	vm->locked = true;

	cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
	fd = openat(vm->dir_fd, "working_set_bitmap", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		read_failed(vm, errno);
		return;
	}
	cpu = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;

	vm->no_file = false;
	if (!read_bitmap(vm, fd)) {
		read_failed(vm, errno);
		if (vm == map_vm)
			wss_map_drop(map);
	} else {
		if (vm == map_vm && vm->passes)
			wss_map_pass(map, vm->began[(vm->passes - 1) % (PASSES + 1)], now);
		else if (vm == map_vm)
			wss_map_drop(map);
		vm->began[vm->passes++ % (PASSES + 1)] = now;
		vm->reads++;
		vm->cpu += cpu;
		any_read = true;
		/* Not one that only asks what KVM can do, and has no memory. */
		if (map && !map_name[0] && vm->pages) {
			map_vm = vm;
			snprintf(map_name, sizeof(map_name), "%s (%s)", vm->name, vm->dir);
		}
	}
	close(fd);
}

static double began(const struct vm *vm, unsigned long passes_ago)
{
	return vm->began[(vm->passes - 1 - passes_ago) % (PASSES + 1)];
}

/*
 * Bytes that were touched between the last pass and the latest one that was @window seconds before
 * it, give or take half a second.  -1 if the VM is not watched for so long.
 */
static int64_t touched_in(const struct vm *vm, unsigned int window)
{
	uint64_t pages = 0;
	unsigned int age;
	double from;

	if (vm->passes < 2)
		return -1;
	from = began(vm, 0) - window;
	/* What has age 1 was touched between the last pass and the one before. */
	for (age = 1; age < vm->passes && age <= PASSES; age++) {
		pages += vm->touched[age];
		if (began(vm, age) <= from + 0.5)
			return pages * PAGE_BYTES;
	}
	return -1;
}

static const char *human(int64_t bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	static char buf[4][32];
	static unsigned int next;
	char *to = buf[next++ % 4];
	double size = bytes / 1024.0;
	unsigned int unit = 0;

	if (bytes < 0)
		return "-";
	while (size >= 1024 && unit < 3) {
		size /= 1024;
		unit++;
	}
	snprintf(to, sizeof(buf[0]), unit ? "%.1f %s" : "%.0f %s", size, units[unit]);
	return to;
}

static void print_text(void)
{
	const struct vm *vm;
	unsigned int i, nr = 0;

	if (isatty(STDOUT_FILENO))
		printf("\033[H\033[J");
	printf("%-12s %-16s %10s", "PID-FD", "VM", "SIZE");
	for (i = 0; i < NR_WINDOWS; i++)
		printf(" %8u s", windows[i]);
	printf(" %13s\n", "KVM, ms a read");
	for (vm = vms; vm; vm = vm->next) {
		if (!is_wanted(vm))
			continue;
		nr++;
		printf("%-12s %-16s ", vm->dir, vm->name);
		if (vm->error) {
			printf("%s\n", vm->error);
			continue;
		}
		printf("%10s", human(vm->passes ? (int64_t)(vm->pages * PAGE_BYTES) : -1));
		for (i = 0; i < NR_WINDOWS; i++)
			printf(" %10s", human(touched_in(vm, windows[i])));
		if (vm->reads)
			printf(" %14.3f\n", vm->cpu * 1e3 / vm->reads);
		else
			printf(" %14s\n", "-");
	}
	if (!nr)
		printf("no VM\n");
}

static void print_json(void)
{
	const char *separator = "";
	const struct vm *vm;
	unsigned int i;
	int64_t touched;

	printf("{\"time\": %.3f, \"vms\": [", seconds(CLOCK_REALTIME));
	for (vm = vms; vm; vm = vm->next) {
		if (!is_wanted(vm))
			continue;
		printf("%s{\"vm\": \"%s\", \"pid\": %d, \"name\": ", separator, vm->dir, vm->pid);
		json_string(vm->name);
		printf(", \"error\": ");
		if (vm->error)
			json_string(vm->error);
		else
			printf("null");
		if (vm->passes)
			printf(", \"size\": %" PRIu64 ", \"touched\": {", vm->pages * PAGE_BYTES);
		else
			printf(", \"size\": null, \"touched\": {");
		for (i = 0; i < NR_WINDOWS; i++) {
			touched = touched_in(vm, windows[i]);
			printf("%s\"%u\": ", i ? ", " : "", windows[i]);
			if (touched < 0)
				printf("null");
			else
				printf("%" PRId64, touched);
		}
		printf("}, \"reads\": %u, \"kvm_ns\": %.0f}", vm->reads, vm->cpu * 1e9);
		separator = ", ";
	}
	printf("]}\n");
}

/* Returns false if nobody can read it. */
static bool print_table(void)
{
	struct vm *vm;

	if (options.json)
		print_json();
	else
		print_text();
	for (vm = vms; vm; vm = vm->next) {
		vm->reads = 0;
		vm->cpu = 0;
	}
	return !fflush(stdout) && !ferror(stdout);
}

static void print_names(FILE *to)
{
	const struct vm *vm;

	for (vm = vms; vm; vm = vm->next)
		fprintf(to, "  %-12s %s\n", vm->dir, vm->name);
}

/* What makes all reading in vain.  Returns EXIT_OK if nothing does. */
static int check(void)
{
	unsigned int nr = 0;
	struct vm *vm;

	if (geteuid())
		die("only root can read a VM's working set");
	if (access("/sys/module/kvm", F_OK)) {
		fputs("kvm-lockless-mmu: KVM is not loaded: modprobe kvm_amd or kvm_intel\n", stderr);
		return EXIT_NOT_OURS;
	}
	if (!kvm_is_ours()) {
		fputs("kvm-lockless-mmu: the KVM that is loaded is not that of kvm-lockless-mmu: "
		      "see kvm-lockless-mmu status\n", stderr);
		return EXIT_NOT_OURS;
	}
	if (access(KVM_DEBUGFS, X_OK))
		die("no " KVM_DEBUGFS "; it wants debugfs (mount -t debugfs none /sys/kernel/debug), "
		    "and kvm_amd or kvm_intel to be loaded");

	find_vms();
	for (vm = vms; vm; vm = vm->next)
		nr += is_wanted(vm);
	if (options.vm && !nr) {
		fprintf(stderr, "kvm-lockless-mmu: no VM is called \"%s\"%s\n", options.vm,
			vms ? ", but there are" : ": there is none");
		print_names(stderr);
		return EXIT_ERROR;
	}
	if (options.map && nr > 1) {
		fprintf(stderr, "kvm-lockless-mmu: --map wants --vm, a PID-FD or a name of\n");
		print_names(stderr);
		return EXIT_ERROR;
	}
	return EXIT_OK;
}

static bool any_wanted(void)
{
	const struct vm *vm;

	for (vm = vms; vm; vm = vm->next) {
		if (is_wanted(vm))
			return true;
	}
	return false;
}

/* Until the next second that is to come.  If passes took longer, those that were missed are left out. */
static void wait_for(struct timespec *next)
{
	do
		next->tv_sec++;
	while (seconds(CLOCK_MONOTONIC) > next->tv_sec + next->tv_nsec / 1e9);
	while (!stop && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL) == EINTR)
		;
}

/* Returns an exit status. */
static int watch(void)
{
	unsigned long tables = 0;
	struct timespec next;
	double table;
	struct vm *vm;

	clock_gettime(CLOCK_MONOTONIC, &next);
	table = seconds(CLOCK_MONOTONIC) + options.interval;
	for (; !stop; wait_for(&next)) {
		find_vms();
		if (options.vm && !any_wanted()) {
			fprintf(stderr, "kvm-lockless-mmu: VM %s is gone\n", options.vm);
			break;
		}
		for (vm = vms; vm && !stop; vm = vm->next) {
			if (is_wanted(vm))
				read_vm(vm);
		}
		/* A table may come half a second early, as passes are not exactly a second apart. */
		if (stop || seconds(CLOCK_MONOTONIC) < table - 0.5)
			continue;
		if (!print_table()) {
			if (stop)
				break;
			fprintf(stderr, "kvm-lockless-mmu: cannot write: %s\n", strerror(errno));
			return EXIT_ERROR;
		}
		if (++tables == options.count)
			break;
		table += options.interval;
		if (table < seconds(CLOCK_MONOTONIC))
			table = seconds(CLOCK_MONOTONIC) + options.interval;
	}
	if (any_failed && !any_read) {
		fprintf(stderr, "kvm-lockless-mmu: no VM could be read\n");
		return EXIT_ERROR;
	}
	return EXIT_OK;
}

static unsigned long parse(const char *name, const char *value)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (!isdigit((unsigned char)*value) || *end || errno || !n || n > 1000000)
		die("--%s takes a number from 1 to 1000000, not \"%s\"", name, value);
	return n;
}

static void help(FILE *to)
{
	fputs("usage: kvm-lockless-mmu wss [--interval SECONDS] [--count TABLES] [--vm PID|PID-FD|NAME]\n"
	      "                            [--json] [--map FILE.svg]\n"
	      "\n"
	      "How much of its memory did each VM touch in the last 1, 10 and 60 seconds?\n"
	      "KVM is asked once a second, and reclaim loses nothing by that.\n"
	      "\n"
	      "  --interval SECONDS  between two tables, 5 by default\n"
	      "  --count TABLES      then end; by default, wss goes on until SIGINT or SIGTERM\n"
	      "  --vm VM             that one alone; wss ends with it\n"
	      "  --json              a JSON object for each table, on a line of its own\n"
	      "  --map FILE.svg      when wss ends, draw what one VM touched over time: the one there is, or\n"
	      "                      the first that comes, and wss ends with it; of several, --vm's\n"
	      "\n"
	      "Exit status: 0 if wss ended by a signal, the last table or the VM's end, 1 if the series' KVM\n"
	      "is not loaded, 2 for an error, or if no VM could be read.\n", to);
}

int wss(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "interval", required_argument, NULL, 'i' },
		{ "count", required_argument, NULL, 'c' },
		{ "vm", required_argument, NULL, 'v' },
		{ "json", no_argument, NULL, 'j' },
		{ "map", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	struct sigaction action = { .sa_handler = on_signal };
	struct rlimit limit;
	int option, status;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case 'i':
			options.interval = parse("interval", optarg);
			break;
		case 'c':
			options.count = parse("count", optarg);
			break;
		case 'v':
			options.vm = optarg;
			break;
		case 'j':
			options.json = true;
			break;
		case 'm':
			options.map = optarg;
			break;
		case 'h':
			help(stdout);
			return EXIT_OK;
		default:
			help(stderr);
			return EXIT_ERROR;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "kvm-lockless-mmu wss: cannot make sense of \"%s\"\n", argv[optind]);
		help(stderr);
		return EXIT_ERROR;
	}

	/* A file for each VM. */
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	status = check();
	if (status)
		return status;
	if (options.map)
		map = wss_map_open(options.map);
	catch(SIGINT, &action);
	catch(SIGTERM, &action);
	catch(SIGHUP, &action);
	/* The map is written all the same. */
	signal(SIGPIPE, SIG_IGN);
	status = watch();
	if (map && map_name[0])
		wss_map_write(map, map_name);
	else if (map)
		die("no VM was read, so there is no map");
	return status;
}
