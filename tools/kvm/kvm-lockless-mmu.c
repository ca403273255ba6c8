// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm-lockless-mmu status: which KVM is loaded, what of the series it has, and
 * what its counters say.  The command wss is in wss.c.
 *
 * It reads sysfs and debugfs, and asks modinfo which file modprobe would load.
 * Exit status: 0 if the KVM that is loaded is the series', 1 if it is another
 * one or none is, 2 for wrong arguments or for what could not be read.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "kvm-lockless-mmu.h"

#ifndef VERSION
#error "VERSION is the content of the file VERSION, as a string"
#endif

#define MAX_COUNTERS	32

struct counter {
	char name[32];
	unsigned long long value;
};

struct counters {
	bool there;
	int nr;
	struct counter counter[MAX_COUNTERS];
};

struct vm {
	int pid, fd;
	unsigned long long write_track_bytes;
};

struct status {
	bool loaded, builtin, debugfs;
	/* Of what is loaded: "" for the kernel's own. */
	char version[64];
	char srcversion[64];
	/* What modprobe would load now, and its version. */
	char file[512];
	char file_version[64];
	char file_srcversion[64];
	char release[128];
	/* The bitmap's module parameter, which only a kernel of the series has. */
	char age_bitmap[8];
	struct counters age, log, faults;
	struct vm *vms;
	int nr_vms;
};

void die(const char *fmt, ...)
{
	va_list args;

	fputs("kvm-lockless-mmu: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_ERROR);
}

/* The first line of a file, or "". */
static void read_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");

	line[0] = '\0';
	if (!file)
		return;
	if (!fgets(line, size, file))
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	fclose(file);
}

/* One field of the module that modprobe would load, or "". */
static void modinfo(const char *field, char *line, size_t size)
{
	char command[96];
	FILE *pipe;

	snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin modinfo %s kvm 2>/dev/null", field);
	line[0] = '\0';
	pipe = popen(command, "re");
	if (!pipe)
		return;
	if (!fgets(line, size, pipe))
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	pclose(pipe);
}

/* Lines of a name and a number, as the series' files in debugfs have them. */
static void read_counters(const char *path, struct counters *counters)
{
	FILE *file = fopen(path, "re");
	struct counter *c;

	if (!file)
		return;
	counters->there = true;
	while (counters->nr < MAX_COUNTERS) {
		c = &counters->counter[counters->nr];
		if (fscanf(file, "%31[a-z_] %llu\n", c->name, &c->value) != 2)
			break;
		counters->nr++;
	}
	fclose(file);
}

static int compare_vms(const void *a, const void *b)
{
	const struct vm *x = a, *y = b;

	return x->pid != y->pid ? x->pid - y->pid : x->fd - y->fd;
}

/* Each VM has a directory PID-FD. */
static void read_vms(struct status *status)
{
	struct dirent *entry;
	char path[1024];
	struct vm vm;
	FILE *file;
	char rest;
	DIR *dir;

	dir = opendir(KVM_DEBUGFS);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (sscanf(entry->d_name, "%d-%d%c", &vm.pid, &vm.fd, &rest) != 2)
			continue;
		snprintf(path, sizeof(path), KVM_DEBUGFS "/%s/write_track_bytes", entry->d_name);
		file = fopen(path, "re");
		/* It may have gone meanwhile. */
		if (!file)
			continue;
		if (fscanf(file, "%llu", &vm.write_track_bytes) == 1) {
			status->vms = realloc(status->vms, (status->nr_vms + 1) * sizeof(vm));
			if (!status->vms)
				die("out of memory");
			status->vms[status->nr_vms++] = vm;
		}
		fclose(file);
	}
	closedir(dir);
	if (status->nr_vms)
		qsort(status->vms, status->nr_vms, sizeof(vm), compare_vms);
}

static void read_version(struct status *status)
{
	read_line("/sys/module/kvm/version", status->version, sizeof(status->version));
	read_line("/sys/module/kvm/parameters/age_bitmap", status->age_bitmap, sizeof(status->age_bitmap));
}

/* The series' KVM: by its version, or, in a kernel of the series, by its parameter. */
static bool is_ours(const struct status *status)
{
	return status->version[0] || status->age_bitmap[0];
}

bool kvm_is_ours(void)
{
	struct status status = { 0 };

	read_version(&status);
	return is_ours(&status);
}

/* Is what modprobe would load now what is loaded? */
static bool is_file(const struct status *status)
{
	return status->loaded && !status->builtin && status->file[0] &&
	       !strcmp(status->srcversion, status->file_srcversion);
}

static void get_status(struct status *status)
{
	struct utsname uts;

	if (!uname(&uts))
		snprintf(status->release, sizeof(status->release), "%s", uts.release);
	status->loaded = !access("/sys/module/kvm", F_OK);
	modinfo("-n", status->file, sizeof(status->file));
	modinfo("-F version", status->file_version, sizeof(status->file_version));
	modinfo("-F srcversion", status->file_srcversion, sizeof(status->file_srcversion));
	if (!status->loaded)
		return;

	status->builtin = access("/sys/module/kvm/initstate", F_OK);
	read_version(status);
	read_line("/sys/module/kvm/srcversion", status->srcversion, sizeof(status->srcversion));
	status->debugfs = !access(KVM_DEBUGFS, X_OK);
	read_counters(KVM_DEBUGFS "/age", &status->age);
	read_counters(KVM_DEBUGFS "/dirty_log", &status->log);
	read_counters(KVM_DEBUGFS "/fast_page_fault", &status->faults);
	read_vms(status);
}

static void print_counters(const struct counters *counters)
{
	int i;

	for (i = 0; i < counters->nr; i++)
		printf("%s%s %llu", i ? ", " : "", counters->counter[i].name, counters->counter[i].value);
	printf("%s\n", counters->nr ? "" : "nothing yet");
}

static void print_text(const struct status *status)
{
	int i;

	if (!status->loaded) {
		printf("KVM is not loaded; modprobe would load %s%s%s\n",
		       status->file[0] ? status->file : "nothing: there is no module kvm",
		       status->file_version[0] ? ", version " : "", status->file_version);
		return;
	}
	if (!is_ours(status)) {
		printf("KVM: the kernel's own, of %s\n", status->release);
	} else {
		printf("KVM: %s%s, on %s\n", status->version[0] ? "lockless MMU " : "of a kernel with the series",
		       status->version, status->release);
	}
	if (is_file(status))
		printf("  from %s\n", status->file);
	else if (status->builtin)
		printf("  built into the kernel\n");
	else if (status->file[0])
		printf("  not from %s%s%s, which is used after a reload, or a boot\n", status->file,
		       status->file_version[0] ? ", version " : "", status->file_version);
	else
		printf("  from a file that is gone\n");
	if (!status->debugfs)
		printf("  no counters: %s\n", geteuid() ? "only root sees them" :
		       "no /sys/kernel/debug/kvm; it wants debugfs, and kvm_amd or kvm_intel to be loaded");
	if (!is_ours(status) || !status->debugfs)
		return;
	printf("aging without mmu_lock: ");
	print_counters(&status->age);
	printf("aging by page tables: %s\n", !status->age_bitmap[0] ? "no, needs a kernel of the series" :
	       status->age_bitmap[0] == 'Y' ? "yes" : "no, kvm.age_bitmap=0");
	printf("dirty log cleared with mmu_lock held for read: ");
	print_counters(&status->log);
	printf("faults fixed without mmu_lock, or why not, and how long all faults waited for it: ");
	print_counters(&status->faults);
	printf("writes tracked, bytes: %s\n", status->nr_vms ? "" : "no VM");
	for (i = 0; i < status->nr_vms; i++)
		printf("  VM %d-%d: %llu\n", status->vms[i].pid, status->vms[i].fd,
		       status->vms[i].write_track_bytes);
}

void json_string(const char *string)
{
	const unsigned char *c;

	putchar('"');
	for (c = (const unsigned char *)string; *c; c++) {
		if (*c == '"' || *c == '\\')
			printf("\\%c", *c);
		else if (*c < ' ')
			printf("\\u%04x", *c);
		else
			putchar(*c);
	}
	putchar('"');
}

static void json_field(const char *name, const char *value)
{
	printf("  \"%s\": ", name);
	json_string(value);
	printf(",\n");
}

static void json_counters(const char *name, const struct counters *counters)
{
	int i;

	printf("  \"%s\": ", name);
	if (!counters->there) {
		printf("null,\n");
		return;
	}
	printf("{");
	for (i = 0; i < counters->nr; i++)
		printf("%s\"%s\": %llu", i ? ", " : "", counters->counter[i].name, counters->counter[i].value);
	printf("},\n");
}

static void print_json(const struct status *status)
{
	int i;

	printf("{\n");
	printf("  \"loaded\": %s,\n", status->loaded ? "true" : "false");
	printf("  \"lockless\": %s,\n", is_ours(status) ? "true" : "false");
	json_field("release", status->release);
	json_field("version", status->version);
	json_field("file", status->file);
	json_field("file_version", status->file_version);
	printf("  \"file_is_loaded\": %s,\n",
	       is_file(status) ? "true" : "false");
	printf("  \"age_bitmap\": %s,\n", status->age_bitmap[0] == 'Y' ? "true" : "false");
	json_counters("age", &status->age);
	json_counters("dirty_log", &status->log);
	json_counters("fast_page_fault", &status->faults);
	printf("  \"vms\": [");
	for (i = 0; i < status->nr_vms; i++)
		printf("%s\n    {\"pid\": %d, \"fd\": %d, \"write_track_bytes\": %llu}", i ? "," : "",
		       status->vms[i].pid, status->vms[i].fd, status->vms[i].write_track_bytes);
	printf("%s]\n}\n", status->nr_vms ? "\n  " : "");
}

static void help(FILE *to)
{
	fputs("usage: kvm-lockless-mmu status [--json]\n"
	      "       kvm-lockless-mmu wss [--interval SECONDS] [--count TABLES] [--vm VM] [--json] [--map FILE.svg]\n"
	      "       kvm-lockless-mmu --version | --help\n"
	      "\n"
	      "  status  which KVM is loaded and from where, what it does without mmu_lock, and\n"
	      "          what it counted: for all VMs since it was loaded, and what each VM takes\n"
	      "          to track writes; root sees the counters\n"
	      "  wss     how much of its memory each VM touches; wss --help tells more\n"
	      "  --json  the same as a JSON object\n"
	      "\n"
	      "Exit status: 0 if the series' KVM is loaded, 1 if another one or none is, 2 for an error.\n", to);
}

static int print_status(int argc, char **argv)
{
	struct status status = { 0 };
	bool json = argc == 2 && !strcmp(argv[1], "--json");

	if (argc > 1 && !json) {
		fprintf(stderr, "kvm-lockless-mmu: cannot make sense of \"%s\"\n", argv[argc - 1]);
		help(stderr);
		return EXIT_ERROR;
	}
	get_status(&status);
	if (json)
		print_json(&status);
	else
		print_text(&status);
	free(status.vms);
	return is_ours(&status) ? EXIT_OK : EXIT_NOT_OURS;
}

int main(int argc, char **argv)
{
	int status = EXIT_ERROR;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		help(stdout);
		status = EXIT_OK;
	} else if (argc == 2 && !strcmp(argv[1], "--version")) {
		puts("kvm-lockless-mmu " VERSION);
		status = EXIT_OK;
	} else if (argc > 1 && !strcmp(argv[1], "status")) {
		status = print_status(argc - 1, argv + 1);
	} else if (argc > 1 && !strcmp(argv[1], "wss")) {
		status = wss(argc - 1, argv + 1);
	} else {
		if (argc > 1)
			fprintf(stderr, "kvm-lockless-mmu: cannot make sense of \"%s\"\n", argv[1]);
		help(stderr);
	}
	if (status != EXIT_ERROR && (fflush(stdout) || ferror(stdout)))
		die("cannot write: %s", strerror(errno));
	return status;
}
