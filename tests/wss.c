// SPDX-License-Identifier: GPL-2.0-only
/*
 * The windows and the map of kvm-lockless-mmu wss, with passes that are made up: no KVM is needed.
 * Prints what is wrong, and ends with 1 then.
 *
 * wss FILE.svg    draws a map there
 */
#include "../tools/kvm/wss.c"
#include "../tools/kvm/wss-map.c"

static bool wrong;

#define CHECK(what, ...)						\
	do {								\
		if (!(what)) {						\
			printf("wss.c:%d: not %s: ", __LINE__, #what);	\
			printf(__VA_ARGS__);				\
			putchar('\n');					\
			wrong = true;					\
		}							\
	} while (0)

void die(const char *fmt, ...)
{
	puts(fmt);
	exit(1);
}

bool kvm_is_ours(void)
{
	return true;
}

void json_string(const char *string)
{
	puts(string);
}

/* When pass @n began: a second after the one before, unless @late. */
static double when(unsigned int n, const double *late)
{
	double at = 1000 + n;

	return late ? at + late[n % 4] : at;
}

/*
 * Passes over one word.  Page n % 64 is touched before pass n, so each window's pages are known
 * from the passes' times alone.
 */
static void check_windows(unsigned int passes, const double *late)
{
	uint8_t age[WORD_PAGES] = { 0 };
	struct vm vm = { .age = age };
	unsigned int n, i, age_of;

	for (n = 0; n < passes; n++) {
		memset(vm.touched, 0, sizeof(vm.touched));
		if (n)
			age_word(vm.touched, vm.age, 1ull << n % 64);
		vm.began[vm.passes++ % (PASSES + 1)] = when(n, late);

		for (i = 0; i < NR_WINDOWS; i++) {
			int64_t want = -1, found = touched_in(&vm, windows[i]) / (int64_t)PAGE_BYTES;

			/* By the rule, and not by counts: the latest pass that is long enough ago. */
			for (age_of = 1; age_of <= n && age_of <= PASSES; age_of++) {
				if (when(n, late) - when(n - age_of, late) >= windows[i] - 0.5) {
					want = age_of;
					break;
				}
			}
			if (touched_in(&vm, windows[i]) < 0)
				found = -1;
			CHECK(found == want, "pass %u, %u s: %lld pages, not %lld", n, windows[i],
			      (long long)found, (long long)want);
		}
	}
	CHECK(passes < 61 || late || touched_in(&vm, 60) == 60 * (int64_t)PAGE_BYTES, "a page a second");
}

/* A page that is touched again counts once, as young as it was last. */
static void check_again(void)
{
	uint64_t touched[PASSES + 1] = { 0 };
	uint8_t age[WORD_PAGES] = { [3] = 5, [4] = PASSES };

	age_word(touched, age, 1 << 3);
	CHECK(age[3] == 1 && touched[1] == 1, "age %u", age[3]);
	CHECK(!age[4], "what is too old is forgotten, not %u", age[4]);
	memset(touched, 0, sizeof(touched));
	age_word(touched, age, 0);
	CHECK(age[3] == 2 && touched[2] == 1 && !touched[1], "age %u", age[3]);
}

static void check_holes(void)
{
	struct vm vm = { 0 };
	size_t page = sysconf(_SC_PAGESIZE), nr = 16 * page;

	if (!resize_ages(&vm, nr))
		die("no memory");
	memset(vm.age, 1, nr);
	forget_hole(&vm, page + 64, 3 * page - 64);
	CHECK(vm.age[page + 63] && !vm.age[page + 64] && !vm.age[2 * page] && !vm.age[3 * page - 65] &&
	      vm.age[3 * page - 64], "some pages");
	memset(vm.age, 1, nr);
	forget_hole(&vm, 64, 128);
	CHECK(vm.age[63] && !vm.age[64] && !vm.age[127] && vm.age[128], "some words");
	memset(vm.age, 1, nr);
	forget_hole(&vm, 0, nr);
	CHECK(!vm.age[0] && !vm.age[nr - 1], "all of it");
	if (!resize_ages(&vm, 2 * nr))
		die("no memory");
	CHECK(!vm.age[2 * nr - 1], "more of it");
	forget_passes(&vm);
}

/* Whoever was stopped for a while does not make up for it, pass by pass. */
static void check_late(void)
{
	double begin = seconds(CLOCK_MONOTONIC), took;
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	next.tv_sec -= 100;
	wait_for(&next);
	took = seconds(CLOCK_MONOTONIC) - begin;
	wait_for(&next);
	wait_for(&next);
	CHECK(seconds(CLOCK_MONOTONIC) - begin - took > 1.9, "%g s for two passes more",
	      seconds(CLOCK_MONOTONIC) - begin - took);
}

static void check_names(void)
{
	static const char *const names[][2] = {
		{ "web", "web" }, { "web,debug-threads=on", "web" }, { "guest=web,debug-threads=on", "web" },
		{ "debug-threads=on,guest=web", "web" }, { "process=a", NULL },
	};
	unsigned int i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *value = strdup(names[i][0]);
		const char *name = guest_name(value);

		CHECK(!name == !names[i][1] && (!name || !strcmp(name, names[i][1])), "%s", names[i][0]);
		free(value);
	}
}

/* Of all columns. */
static uint64_t total(const struct wss_map *m)
{
	uint64_t sum = 0;
	unsigned int row, c;

	for (c = 0; c < m->nr_columns; c++) {
		for (row = 0; row < m->nr_rows; row++)
			sum += m->columns[c].touched[row];
	}
	return sum;
}

/*
 * A VM of 2 GiB below the hole and 6 GiB above 4 GiB, then 2 GiB more.  More rows and more passes
 * than the map has: nothing is lost when they are put together.
 */
static void check_map(const char *path)
{
	const uint64_t gib = 1 << 18;
	struct wss_map *m = wss_map_open(path);
	uint64_t touched = 0, pages = 0;
	unsigned int n, passes = 3 * MAX_COLUMNS + 7, total_passes = 0, row, c;
	double at = 100;

	for (n = 0; n < passes; n++) {
		uint64_t above = n < passes / 2 ? 6 * gib : 8 * gib, hot = 4 * gib + (n * 97 % 6) * gib;

		wss_map_memory(m, 0, 2 * gib);
		wss_map_memory(m, 4 * gib, above);
		wss_map_touched(m, n * 64 % (2 * gib), 64);
		wss_map_touched(m, hot, 3);
		/* Somebody else read it meanwhile. */
		if (n % 100 == 50) {
			wss_map_drop(m);
			at += 1;
			continue;
		}
		touched += 67;
		wss_map_pass(m, at, at + 1);
		at += 1;
		total_passes++;
		CHECK(total(m) == touched, "pass %u: %llu touched, not %llu", n, (unsigned long long)total(m),
		      (unsigned long long)touched);
	}
	for (row = 0; row < m->nr_rows; row++) {
		pages += m->rows[row].pages;
		CHECK(!m->rows[row].new_pages, "row %u", row);
		CHECK(!row || m->rows[row].block > m->rows[row - 1].block, "row %u", row);
	}
	CHECK(pages == 10 * gib, "%llu pages", (unsigned long long)pages);
	CHECK(m->nr_rows > MAX_ROWS / 4 && m->nr_rows <= MAX_ROWS, "%u rows", m->nr_rows);
	for (c = 0; c < m->nr_columns; c++) {
		total_passes -= m->columns[c].passes;
		CHECK(m->columns[c].passes && m->columns[c].passes <= m->passes, "column %u", c);
		CHECK(m->columns[c].end > m->columns[c].begin, "column %u", c);
		CHECK(!c || m->columns[c].begin >= m->columns[c - 1].end, "column %u", c);
	}
	CHECK(!total_passes, "%u passes are lost", total_passes);
	CHECK(m->nr_columns > MAX_COLUMNS / 4, "%u columns", m->nr_columns);
	wss_map_write(m, "a <VM> & \"more\"");
}

int main(int argc, char **argv)
{
	static const double late[][4] = { { 0, 0.4, -0.4, 0.1 }, { 0, 0.9, 0.2, 0.6 } };
	static const double slow[4] = { 0, 0, 0, 0 };
	unsigned int i;

	if (argc != 2)
		die("usage: wss FILE.svg");
	check_windows(200, NULL);
	check_windows(200, slow);
	for (i = 0; i < sizeof(late) / sizeof(late[0]); i++)
		check_windows(200, late[i]);
	check_again();
	check_holes();
	check_late();
	check_names();
	check_map(argv[1]);
	return wrong;
}
