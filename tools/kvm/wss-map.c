// SPDX-License-Identifier: GPL-2.0-only
/*
 * The map of kvm-lockless-mmu wss: guest memory from bottom to top, time from left to right, darker
 * where more was touched.  However long it runs and however much memory the VM has, the picture has
 * at most so many rows and columns: two become one where there are more.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm-lockless-mmu.h"

#define MAX_ROWS	160
#define MAX_COLUMNS	240

#define WIDTH		720
#define HEIGHT		400
#define LEFT		80
#define TOP		44

/* Of 2^block_shift gfns, aligned. */
struct row {
	uint64_t block;
	/* How many of them the VM had in the last pass, and has in the one that is made now. */
	uint64_t pages, new_pages;
};

struct column {
	double begin, end;
	/* Between them, without gaps. */
	double watched;
	unsigned int passes;
	/* In all passes, by row. */
	uint64_t touched[MAX_ROWS];
};

struct wss_map {
	const char *path;
	char *new_path;
	FILE *file;
	unsigned int block_shift;
	unsigned int nr_rows, nr_columns;
	/* How many passes a column has when it is full. */
	unsigned int passes;
	/* By block. */
	struct row rows[MAX_ROWS];
	/* One more than there are: the pass that is made now. */
	struct column columns[MAX_COLUMNS + 1];
};

/* From the fraction of the pages that were touched in a pass, one below the other. */
static const struct shade {
	double from;
	const char *colour, *legend;
} shades[] = {
	{ 0.5, "#3f007d", "half or more" },
	{ 0.125, "#6a51a3", "1/8 and more" },
	{ 1.0 / 32, "#9e9ac8", "1/32 and more" },
	{ 0, "#cbc9e2", "any" },
};

#define NR_SHADES	((int)(sizeof(shades) / sizeof(shades[0])))

__attribute__((noreturn)) static void failed(struct wss_map *map)
{
	int error = errno;

	unlink(map->new_path);
	die("cannot write %s: %s", map->path, strerror(error));
}

/* A new file beside the map, as that is replaced at once, or not at all. */
static void create(struct wss_map *map)
{
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	if (asprintf(&map->new_path, "%s.XXXXXX", map->path) < 0)
		die("out of memory");
	fd = mkostemp(map->new_path, O_CLOEXEC);
	if (fd < 0)
		die("cannot write %s: %s", map->path, strerror(errno));
	map->file = fchmod(fd, 0666 & ~mask) ? NULL : fdopen(fd, "w");
	if (!map->file)
		failed(map);
}

struct wss_map *wss_map_open(const char *path)
{
	struct wss_map *map = calloc(1, sizeof(*map));
	struct stat stat;

	if (!map)
		die("out of memory");
	if (!*path)
		die("--map wants the name of a file");
	if (!lstat(path, &stat) && !S_ISREG(stat.st_mode))
		die("%s is no regular file", path);
	map->path = path;
	map->block_shift = 6;
	map->passes = 1;

	create(map);
	fclose(map->file);
	unlink(map->new_path);
	free(map->new_path);
	return map;
}

/* Two blocks become one. */
static void halve_rows(struct wss_map *map)
{
	unsigned int i, c, to = 0;

	map->block_shift++;
	for (i = 0; i < map->nr_rows; i++) {
		struct row row = map->rows[i];

		row.block >>= 1;
		if (to && map->rows[to - 1].block == row.block) {
			map->rows[to - 1].pages += row.pages;
			map->rows[to - 1].new_pages += row.new_pages;
			for (c = 0; c <= map->nr_columns; c++)
				map->columns[c].touched[to - 1] += map->columns[c].touched[i];
			continue;
		}
		map->rows[to] = row;
		for (c = 0; c <= map->nr_columns; c++)
			map->columns[c].touched[to] = map->columns[c].touched[i];
		to++;
	}
	for (c = 0; c <= map->nr_columns; c++)
		memset(&map->columns[c].touched[to], 0, (map->nr_rows - to) * sizeof(uint64_t));
	map->nr_rows = to;
}

/* The first row whose block is not below @block. */
static unsigned int find_row(const struct wss_map *map, uint64_t block)
{
	unsigned int low = 0, high = map->nr_rows, middle;

	while (low < high) {
		middle = (low + high) / 2;
		if (map->rows[middle].block < block)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The row that has @gfn, which may be new. */
static unsigned int get_row(struct wss_map *map, uint64_t gfn)
{
	unsigned int row, c;

	for (;;) {
		row = find_row(map, gfn >> map->block_shift);
		if (row < map->nr_rows && map->rows[row].block == gfn >> map->block_shift)
			return row;
		if (map->nr_rows < MAX_ROWS)
			break;
		halve_rows(map);
	}

	memmove(&map->rows[row + 1], &map->rows[row], (map->nr_rows - row) * sizeof(map->rows[0]));
	map->rows[row] = (struct row) { .block = gfn >> map->block_shift };
	for (c = 0; c <= map->nr_columns; c++) {
		uint64_t *touched = &map->columns[c].touched[row];

		memmove(touched + 1, touched, (map->nr_rows - row) * sizeof(*touched));
		*touched = 0;
	}
	map->nr_rows++;
	return row;
}

static void add_column(const struct wss_map *map, struct column *to, const struct column *from)
{
	unsigned int row;

	to->end = from->end;
	to->watched += from->watched;
	to->passes += from->passes;
	for (row = 0; row < map->nr_rows; row++)
		to->touched[row] += from->touched[row];
}

/* Two columns become one. */
static void halve_columns(struct wss_map *map)
{
	unsigned int i;

	map->passes *= 2;
	for (i = 0; i < map->nr_columns / 2; i++) {
		if (i)
			map->columns[i] = map->columns[2 * i];
		add_column(map, &map->columns[i], &map->columns[2 * i + 1]);
	}
	map->nr_columns = i;
}

void wss_map_pass(struct wss_map *map, double begin, double end)
{
	struct column *column = &map->columns[map->nr_columns];
	unsigned int row;

	for (row = 0; row < map->nr_rows; row++) {
		map->rows[row].pages = map->rows[row].new_pages;
		map->rows[row].new_pages = 0;
	}

	column->begin = begin;
	column->end = end;
	column->watched = end - begin;
	column->passes = 1;
	if (map->nr_columns && column[-1].passes < map->passes && column[-1].end == begin)
		add_column(map, &column[-1], column);
	else
		map->nr_columns++;
	if (map->nr_columns == MAX_COLUMNS)
		halve_columns(map);
	memset(&map->columns[map->nr_columns], 0, sizeof(*column));
}

void wss_map_drop(struct wss_map *map)
{
	unsigned int row;

	for (row = 0; row < map->nr_rows; row++)
		map->rows[row].new_pages = 0;
	memset(&map->columns[map->nr_columns], 0, sizeof(map->columns[0]));
}

void wss_map_memory(struct wss_map *map, uint64_t gfn, uint64_t pages)
{
	const uint64_t end = gfn + pages;
	uint64_t next;

	while (gfn < end) {
		unsigned int row = get_row(map, gfn);

		/* The block, which may have become larger, to its end. */
		next = ((gfn >> map->block_shift) + 1) << map->block_shift;
		if (next > end)
			next = end;
		map->rows[row].new_pages += next - gfn;
		gfn = next;
	}
}

void wss_map_touched(struct wss_map *map, uint64_t gfn, unsigned int pages)
{
	unsigned int row = get_row(map, gfn);

	map->columns[map->nr_columns].touched[row] += pages;
}

/* The index of the shade, or NR_SHADES for what was not touched. */
static int shade_of(const struct wss_map *map, unsigned int row, unsigned int column)
{
	const struct column *c = &map->columns[column];
	/* The VM may have lost memory, that it touched before. */
	uint64_t pages = map->rows[row].pages ? map->rows[row].pages : 1ull << map->block_shift;
	double fraction = (double)c->touched[row] / pages / c->passes;
	int i = 0;

	if (!c->touched[row])
		return NR_SHADES;
	while (fraction < shades[i].from)
		i++;
	return i;
}

static int x_of(const struct wss_map *map, double when)
{
	const double begin = map->columns[0].begin;

	return WIDTH * (when - begin) / (map->columns[map->nr_columns - 1].end - begin) + 0.5;
}

/* Of the lower end of @row, the first of which is at the bottom. */
static int y_of(const struct wss_map *map, unsigned int row)
{
	return HEIGHT - HEIGHT * row / map->nr_rows;
}

/* What has one shade, as one path of rectangles. */
static void draw_shade(const struct wss_map *map, int shade)
{
	unsigned int row, c, first;

	fprintf(map->file, "<path fill=\"%s\" d=\"", shades[shade].colour);
	for (row = 0; row < map->nr_rows; row++) {
		int y = y_of(map, row + 1), height = y_of(map, row) - y;

		for (c = 0; c < map->nr_columns; c++) {
			if (shade_of(map, row, c) != shade)
				continue;
			first = c;
			while (c + 1 < map->nr_columns && shade_of(map, row, c + 1) == shade)
				c++;
			int x = x_of(map, map->columns[first].begin);
			int width = x_of(map, map->columns[c].end) - x;

			fprintf(map->file, "M%d %dh%dv%dh-%dz", x, y, width, height, width);
		}
	}
	fprintf(map->file, "\"/>\n");
}

/*
 * When the VM was watched, which it is not while another program reads it.  That is not to be seen
 * any more when the columns on both sides have become one.
 */
static void draw_watched(const struct wss_map *map)
{
	unsigned int c, first;

	for (c = 0; c < map->nr_columns; c++) {
		first = c;
		while (c + 1 < map->nr_columns && map->columns[c + 1].begin <= map->columns[c].end)
			c++;
		int x = x_of(map, map->columns[first].begin);

		fprintf(map->file, "<rect x=\"%d\" width=\"%d\" height=\"%d\" fill=\"#f2f2f2\"/>\n", x,
			x_of(map, map->columns[c].end) - x, HEIGHT);
	}
}

static void print_address(FILE *file, uint64_t gfn)
{
	double mib = gfn / 256.0;

	if (!gfn)
		fputs("0", file);
	else if (mib >= 1024 * 1024)
		fprintf(file, "%.4g TiB", mib / 1024 / 1024);
	else if (mib >= 1024)
		fprintf(file, "%.4g GiB", mib / 1024);
	else
		fprintf(file, "%.4g MiB", mib);
}

/* The addresses: at the bottom, behind each hole, and some between. */
static void draw_addresses(const struct wss_map *map)
{
	unsigned int row, last = 0;

	for (row = 0; row < map->nr_rows; row++) {
		bool hole = row && map->rows[row].block != map->rows[row - 1].block + 1;

		if (hole)
			fprintf(map->file, "<path stroke=\"#888\" stroke-dasharray=\"4 3\" d=\"M0 %dh%d\"/>\n",
				y_of(map, row), WIDTH);
		if (row && y_of(map, last) - y_of(map, row) < (hole ? 14 : HEIGHT / 5))
			continue;
		last = row;
		fprintf(map->file, "<text x=\"-8\" y=\"%d\" text-anchor=\"end\">", y_of(map, row));
		print_address(map->file, map->rows[row].block << map->block_shift);
		fprintf(map->file, "</text>\n");
	}
}

static void draw_times(const struct wss_map *map)
{
	static const unsigned int steps[] = { 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600 };
	const double begin = map->columns[0].begin;
	const double length = map->columns[map->nr_columns - 1].end - begin;
	unsigned int step = 3600, i;
	double at;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (length / steps[i] <= 12) {
			step = steps[i];
			break;
		}
	}
	/* A day, or a year. */
	while (length / step > 12)
		step *= 2;
	for (at = 0; at <= length; at += step)
		fprintf(map->file, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%.0f s</text>\n",
			x_of(map, begin + at), HEIGHT + 18, at);
}

static void print_escaped(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&\"", *text))
			fprintf(file, "&#%d;", *text);
		else
			fputc(*text, file);
	}
}

static void draw(const struct wss_map *map, const char *vm)
{
	unsigned int row, c, passes = 0;
	uint64_t pages = 0;
	double watched = 0;
	int i, x;

	for (row = 0; row < map->nr_rows; row++)
		pages += map->rows[row].pages;
	for (c = 0; c < map->nr_columns; c++) {
		watched += map->columns[c].watched;
		passes += map->columns[c].passes;
	}

	fprintf(map->file, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\""
		" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", LEFT + WIDTH + 20,
		TOP + HEIGHT + 56);
	fprintf(map->file, "<g transform=\"translate(%d %d)\">\n<text x=\"0\" y=\"-16\" font-size=\"14\">VM ", LEFT, TOP);
	print_escaped(map->file, vm);
	fprintf(map->file, ", ");
	print_address(map->file, pages);
	fprintf(map->file, ": guest memory that was touched, by guest physical address</text>\n");
	draw_watched(map);
	for (i = 0; i < NR_SHADES; i++)
		draw_shade(map, i);
	draw_addresses(map);
	draw_times(map);

	fprintf(map->file, "<text x=\"0\" y=\"%d\">of the pages of a cell, touched in %.0f s:</text>\n", HEIGHT + 42,
		watched / passes);
	for (i = NR_SHADES - 1, x = 230; i >= 0; i--, x += 120)
		fprintf(map->file, "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" fill=\"%s\"/>"
			"<text x=\"%d\" y=\"%d\">%s</text>\n", x, HEIGHT + 32, shades[i].colour, x + 18, HEIGHT + 42,
			shades[i].legend);
	fprintf(map->file, "</g>\n</svg>\n");
}

void wss_map_write(struct wss_map *map, const char *vm)
{
	if (!map->nr_columns || !map->nr_rows)
		die("no map: the VM was not watched for a second");
	create(map);
	draw(map, vm);
	/* Some filesystems have no fsync(). */
	if (fflush(map->file) || ferror(map->file) || (fsync(fileno(map->file)) && errno != EINVAL) ||
	    fclose(map->file) || rename(map->new_path, map->path))
		failed(map);
	free(map->new_path);
	free(map);
}
