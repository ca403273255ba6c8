// SPDX-License-Identifier: GPL-2.0-only
/*
 * Aging of this process's memory on demand, see aging_util.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/bits.h>

#include "aging_util.h"
#include "test_util.h"

#define PAGE_IDLE_BITMAP	"/sys/kernel/mm/page_idle/bitmap"
#define LRU_GEN_DEBUGFS		"/sys/kernel/debug/lru_gen"
#define LRU_GEN_ENABLED		"/sys/kernel/mm/lru_gen/enabled"
#define LOCK_STAT		"/proc/lock_stat"
#define FAST_FAULTS		"/sys/kernel/debug/kvm/pf_fast"
#define AGE_STATS		"/sys/kernel/debug/kvm/age"
#define DIRTY_LOG_STATS		"/sys/kernel/debug/kvm/dirty_log"
#define FAULT_STATS		"/sys/kernel/debug/kvm/fast_page_fault"

/* Bits of LRU_GEN_ENABLED: the core, and the walker of page tables. */
#define LRU_GEN_CORE_AND_WALK	0x3

#define PAGEMAP_PRESENT		BIT_ULL(63)
#define PAGEMAP_PFN_MASK	(BIT_ULL(55) - 1)

static uint64_t read_word(int fd, uint64_t index)
{
	uint64_t word;

	TEST_ASSERT(pread(fd, &word, sizeof(word), index * sizeof(word)) == sizeof(word),
		    "Failed to read word %lu", index);
	return word;
}

const char *page_idle_open(struct page_idle *idle)
{
	idle->bitmap_fd = open(PAGE_IDLE_BITMAP, O_RDWR);
	if (idle->bitmap_fd < 0)
		return "cannot open " PAGE_IDLE_BITMAP " (CONFIG_IDLE_PAGE_TRACKING, root)";

	idle->pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	if (idle->pagemap_fd < 0) {
		close(idle->bitmap_fd);
		return "cannot open /proc/self/pagemap";
	}
	return NULL;
}

void page_idle_close(struct page_idle *idle)
{
	close(idle->bitmap_fd);
	close(idle->pagemap_fd);
}

/*
 * If memory ends inside a word of the bitmap, page_idle returns a short read and
 * a short write for that word.
 */
static bool page_idle_covers(struct page_idle *idle, uint64_t pfn)
{
	uint64_t word;

	return pread(idle->bitmap_fd, &word, sizeof(word),
		     pfn / 64 * sizeof(word)) == sizeof(word);
}

uint64_t page_idle_pfn(struct page_idle *idle, const void *hva)
{
	uint64_t entry = read_word(idle->pagemap_fd, (uintptr_t)hva / getpagesize());

	if (!(entry & PAGEMAP_PRESENT))
		return 0;

	TEST_ASSERT(entry & PAGEMAP_PFN_MASK, "pagemap hides frame numbers without CAP_SYS_ADMIN");
	return page_idle_covers(idle, entry & PAGEMAP_PFN_MASK) ? entry & PAGEMAP_PFN_MASK : 0;
}

void page_idle_mark(struct page_idle *idle, const uint64_t *pfns, size_t nr)
{
	uint64_t index, word;
	size_t i = 0;

	while (i < nr) {
		if (!pfns[i]) {
			i++;
			continue;
		}
		index = pfns[i] / 64;
		word = 0;
		for (; i < nr && pfns[i] / 64 == index; i++)
			word |= BIT_ULL(pfns[i] % 64);

		TEST_ASSERT(pwrite(idle->bitmap_fd, &word, sizeof(word),
				   index * sizeof(word)) == sizeof(word),
			    "Failed to mark idle in word %lu", index);
	}
}

void page_idle_test(struct page_idle *idle, const uint64_t *pfns, size_t nr, bool *is_idle)
{
	uint64_t index, word;
	size_t i = 0;

	while (i < nr) {
		if (!pfns[i]) {
			i++;
			continue;
		}
		index = pfns[i] / 64;
		word = read_word(idle->bitmap_fd, index);
		for (; i < nr && pfns[i] / 64 == index; i++)
			is_idle[i] = word >> (pfns[i] % 64) & 1;
	}
}

/* Write a string to a file by one write(); returns 0 or an errno. */
static int write_file(const char *path, const char *string)
{
	ssize_t len = strlen(string);
	int err = 0;
	int fd;

	fd = open(path, O_WRONLY);
	if (fd < 0)
		return errno;
	if (write(fd, string, len) != len)
		err = errno;
	close(fd);
	return err;
}

void aging_drain_lru(void)
{
	/*
	 * drop_caches calls lru_add_drain_all() and leaves anonymous pages where
	 * they are.  Compaction calls it, too, but migrates them.
	 */
	TEST_ASSERT(!write_file("/proc/sys/vm/drop_caches", "1"), "Failed to drain the LRU");
}

static char cgroup_mount[PATH_MAX];
static char cgroup_home[PATH_MAX];
static char cgroup_name[64];
static unsigned int memcg_id;
static int lru_gen_fd = -1;
/* The first contents of LRU_GEN_ENABLED. */
static char lru_gen_caps[16];

static int cgroup_write(const char *dir, const char *file, const char *string)
{
	char path[2 * PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s%s/%s", cgroup_mount, dir, file);
	return write_file(path, string);
}

static bool cgroup_find_mount(void)
{
	char line[PATH_MAX + 256];
	char type[64];
	bool found = false;
	FILE *mounts;

	mounts = fopen("/proc/self/mounts", "r");
	if (!mounts)
		return false;

	while (!found && fgets(line, sizeof(line), mounts))
		found = sscanf(line, "%*s %4095s %63s", cgroup_mount, type) == 2 &&
			!strcmp(type, "cgroup2");
	fclose(mounts);
	return found;
}

static bool cgroup_find_home(void)
{
	char line[PATH_MAX + 16];
	bool found = false;
	FILE *file;

	file = fopen("/proc/self/cgroup", "r");
	if (!file)
		return false;

	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "0::%4095[^\n]", cgroup_home) == 1;
	fclose(file);
	return found;
}

static void cgroup_cleanup(void)
{
	char path[2 * PATH_MAX + 64];

	/* A cgroup with a process in it cannot be removed. */
	cgroup_write(cgroup_home, "cgroup.procs", "0");
	snprintf(path, sizeof(path), "%s%s", cgroup_mount, cgroup_name);
	rmdir(path);
}

void aging_lru_leave(void)
{
	TEST_ASSERT(!cgroup_write(cgroup_home, "cgroup.procs", "0"), "Failed to leave the memcg");
}

void aging_lru_enter(void)
{
	TEST_ASSERT(!cgroup_write(cgroup_name, "cgroup.procs", "0"), "Failed to enter the memcg");
}

/*
 * All of lru_gen as a string, which the caller frees.  Read the file from its
 * start each time, because every pass changes it.
 */
static char *lru_gen_text(void)
{
	size_t size = 4096;
	size_t len = 0;
	char *text = NULL;
	ssize_t ret;

	do {
		if (!text || len + 1 == size) {
			size *= 2;
			text = realloc(text, size);
			TEST_ASSERT(text, "Out of memory");
		}
		ret = pread(lru_gen_fd, text + len, size - len - 1, len);
		TEST_ASSERT(ret >= 0, "Failed to read " LRU_GEN_DEBUGFS);
		len += ret;
	} while (ret);

	text[len] = '\0';
	return text;
}

static bool lru_gen_find_memcg(void)
{
	char *text = lru_gen_text();
	char *save = NULL;
	bool found = false;
	char *line;

	for (line = strtok_r(text, "\n", &save); line && !found;
	     line = strtok_r(NULL, "\n", &save)) {
		size_t len = strlen(line);
		size_t name_len = strlen(cgroup_name);

		/*
		 * lru_gen shows paths from the root of the hierarchy, even
		 * inside a cgroup namespace.  Comparing the end is enough: the
		 * name has our pid in it.
		 */
		found = sscanf(line, "memcg %u", &memcg_id) == 1 && len >= name_len &&
			!strcmp(line + len - name_len, cgroup_name);
	}
	free(text);
	return found;
}

const char *aging_lru_setup(void)
{
	char path[2 * PATH_MAX + 64];
	FILE *enabled;

	enabled = fopen(LRU_GEN_ENABLED, "r");
	if (!enabled)
		return "no " LRU_GEN_ENABLED " (CONFIG_LRU_GEN)";
	if (!fgets(lru_gen_caps, sizeof(lru_gen_caps), enabled))
		lru_gen_caps[0] = '\0';
	fclose(enabled);
	if ((strtoul(lru_gen_caps, NULL, 16) & LRU_GEN_CORE_AND_WALK) != LRU_GEN_CORE_AND_WALK)
		return "MGLRU or its page table walker is off in " LRU_GEN_ENABLED;

	lru_gen_fd = open(LRU_GEN_DEBUGFS, O_RDWR);
	if (lru_gen_fd < 0)
		return "cannot open " LRU_GEN_DEBUGFS " (debugfs mounted, root)";

	if (!cgroup_find_mount())
		return "cgroup2 is not mounted";
	if (!cgroup_find_home())
		return "this process is in no cgroup2 hierarchy";

	/* Fails if the controller belongs to a v1 hierarchy. */
	if (cgroup_write("", "cgroup.subtree_control", "+memory"))
		return "cgroup2 has no memory controller to give";

	snprintf(cgroup_name, sizeof(cgroup_name), "/kvm-aging-%d", getpid());
	snprintf(path, sizeof(path), "%s%s", cgroup_mount, cgroup_name);
	if (mkdir(path, 0755))
		return "cannot create a cgroup";

	/* Failed assertions leave through exit() as well. */
	atexit(cgroup_cleanup);
	if (cgroup_write(cgroup_name, "cgroup.procs", "0"))
		return "cannot move to a cgroup";

	if (!lru_gen_find_memcg())
		return "MGLRU does not show the new cgroup";
	return NULL;
}

void aging_lru_read(struct aging_lru *lru)
{
	char *text = lru_gen_text();
	unsigned long seq, anon, last = 0;
	bool ours = false;
	char *save = NULL;
	unsigned int id;
	char *line;
	int nid;

	lru->nr_nodes = 0;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "memcg %u", &id) == 1) {
			ours = id == memcg_id;
		} else if (!ours) {
			continue;
		} else if (sscanf(line, " node %d", &nid) == 1) {
			TEST_ASSERT(lru->nr_nodes < AGING_MAX_NODES, "Too many nodes");
			lru->nodes[lru->nr_nodes++].nid = nid;
			last = 0;
		} else if (sscanf(line, "%lu %*u %lu", &seq, &anon) == 2) {
			int i = lru->nr_nodes - 1;

			TEST_ASSERT(i >= 0, "A generation without a node: %s", line);
			/* lru_gen lists the oldest first: the two youngest are the last. */
			lru->nodes[i].max_seq = seq;
			lru->nodes[i].anon_aged = last;
			last = anon;
		}
	}
	free(text);
	TEST_ASSERT(lru->nr_nodes, "MGLRU lost memcg %u", memcg_id);
}

void aging_lru_pass(const struct aging_lru *lru)
{
	char command[AGING_MAX_NODES * 64];
	int len = 0;
	int i;

	/*
	 * Swappiness 1: the walk visits anonymous memory.  force_scan 1: the walk
	 * visits page tables that the Bloom filter takes for cold, too.
	 */
	for (i = 0; i < lru->nr_nodes; i++)
		len += snprintf(command + len, sizeof(command) - len, "+ %u %d %lu 1 1\n",
				memcg_id, lru->nodes[i].nid, lru->nodes[i].max_seq);

	TEST_ASSERT(write(lru_gen_fd, command, len) == len, "Aging failed: %s", command);
}

void aging_lru_read_and_pass(void)
{
	struct aging_lru lru;

	aging_lru_read(&lru);
	aging_lru_pass(&lru);
}

/* exit() runs this, also after a failed assertion. */
static void lru_gen_restore(void)
{
	write_file(LRU_GEN_ENABLED, lru_gen_caps);
}

void aging_lru_walk(bool on)
{
	static bool restores;

	if (!restores && atexit(lru_gen_restore))
		TEST_FAIL("atexit() failed");
	restores = true;
	TEST_ASSERT(!write_file(LRU_GEN_ENABLED, on ? lru_gen_caps : "1"),
		    "Failed to write " LRU_GEN_ENABLED);
}

void aging_lru_evict_old(void)
{
	char command[AGING_MAX_NODES * 64];
	struct aging_lru lru;
	int len = 0;
	int i;

	aging_lru_read(&lru);
	/* Swappiness 200: evict anonymous memory only.  INT_MAX: evict as much as there is. */
	for (i = 0; i < lru.nr_nodes; i++)
		len += snprintf(command + len, sizeof(command) - len, "- %u %d %lu 200 %d\n",
				memcg_id, lru.nodes[i].nid, lru.nodes[i].max_seq - 2, INT_MAX);

	TEST_ASSERT(write(lru_gen_fd, command, len) == len, "Eviction failed: %s", command);
}

unsigned long aging_lru_young(void)
{
	struct aging_lru lru;
	unsigned long young = 0;
	int i;

	aging_lru_read(&lru);
	for (i = 0; i < lru.nr_nodes; i++)
		young += lru.nodes[i].anon_aged;
	return young;
}

static long mmu_lock_acquisitions(bool for_read)
{
	long sum = 0, acquisitions;
	bool found = false;
	char line[512];
	char *colon;
	FILE *stat;

	stat = fopen(LOCK_STAT, "r");
	if (!stat)
		return -1;

	while (fgets(line, sizeof(line), stat)) {
		/*
		 * A line is "name-R: numbers" or "name-W: numbers", or, for a lock
		 * that was never taken for read, "name: numbers".  A line about a
		 * contention point has no colon behind the name.
		 */
		colon = strstr(line, "mmu_lock");
		if (!colon)
			continue;
		colon += strlen("mmu_lock");
		if (!strncmp(colon, "-W", 2) || (for_read && !strncmp(colon, "-R", 2)))
			colon += 2;
		if (*colon != ':' || sscanf(colon + 1, "%*s %*s %*s %*s %*s %*s %*s %ld",
					    &acquisitions) != 1)
			continue;
		sum += acquisitions;
		found = true;
	}
	fclose(stat);

	return found ? sum : -1;
}

long aging_mmu_lock_acquisitions(void)
{
	return mmu_lock_acquisitions(true);
}

long aging_mmu_lock_write_acquisitions(void)
{
	return mmu_lock_acquisitions(false);
}

long aging_fast_faults(void)
{
	long faults = -1;
	FILE *stat;

	stat = fopen(FAST_FAULTS, "r");
	if (!stat)
		return -1;
	if (fscanf(stat, "%ld", &faults) != 1)
		faults = -1;
	fclose(stat);

	return faults;
}

static long read_stat(const char *path, const char *key)
{
	long value = -1, v;
	char name[32];
	FILE *file;

	file = fopen(path, "r");
	if (!file)
		return -1;
	while (fscanf(file, "%31s %ld", name, &v) == 2) {
		if (!strcmp(name, key))
			value = v;
	}
	fclose(file);

	return value;
}

long aging_stat(const char *key)
{
	return read_stat(AGE_STATS, key);
}

long aging_dirty_log_stat(const char *key)
{
	return read_stat(DIRTY_LOG_STATS, key);
}

long aging_fault_stat(const char *key)
{
	return read_stat(FAULT_STATS, key);
}

uint64_t aging_huge_bytes(void *hva)
{
	unsigned long start, end, kib, bytes = 0;
	bool ours = false;
	char line[512];
	FILE *smaps;

	smaps = fopen("/proc/self/smaps", "r");
	TEST_ASSERT(smaps, "Failed to open smaps");
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			ours = start <= (unsigned long)hva && (unsigned long)hva < end;
		else if (ours && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
			bytes = kib * 1024;
	}
	fclose(smaps);
	return bytes;
}

unsigned long aging_parse_positive(const char *arg)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(arg, &end, 10);
	if (errno || *end || end == arg || *arg == '-' || value > INT_MAX)
		return 0;
	return value;
}

int aging_open_working_set(int vm_fd, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s", getpid(), vm_fd, name);
	return open(path, O_RDONLY);
}
