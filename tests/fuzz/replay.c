#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 *   fuzz_TARGET [ROUNDS]          seeds, and ROUNDS mutations of each
 *   fuzz_TARGET --seeds DIR       writes the seeds there, for libFuzzer
 *   fuzz_TARGET PATH...           runs these inputs, or all in a directory: a
 *                                 crash, or the corpus
 */

#define INPUT_MAX (1u << 16)
#define ROUNDS 20000ul

static uint8_t seed[INPUT_MAX], input[INPUT_MAX];

static uint64_t random_state;

/* xorshift64: the same on every machine. */
static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint64_t below(uint64_t n)
{
	return next_random() % n;
}

/* Where bounds go wrong: around 0, powers of two, and the ends of types. */
static uint64_t odd_number(void)
{
	uint64_t power = 1ull << below(64);

	switch (below(6)) {
	case 0:
		return 0;
	case 1:
		return power;
	case 2:
		return power - 1;
	case 3:
		return power + 1;
	case 4:
		return UINT64_MAX - below(64);
	default:
		return next_random();
	}
}

/* Most structure is at the front: half of all changes are in 1 KiB. */
static size_t somewhere(size_t size)
{
	return (size_t)below(size > 1024 && below(2) ? 1024 : size);
}

static size_t mutate(size_t size)
{
	static const size_t widths[] = {1, 2, 4, 8};

	for (unsigned n = 1 + (unsigned)below(4); n > 0; n--) {
		size_t width = widths[below(4)], at = somewhere(size);
		uint64_t v = odd_number();

		memcpy(input + at, &v, width < size - at ? width : size - at);
	}
	if (below(8) == 0)
		size = 1 + (size_t)below(size);
	return size;
}

static void replay(unsigned long rounds)
{
	size_t size;

	for (unsigned n = 0; (size = fuzz_seed(n, seed, sizeof(seed))); n++) {
		LLVMFuzzerTestOneInput(seed, size);
		random_state = 0x9e3779b97f4a7c15ull + n;
		for (unsigned long i = 0; i < rounds; i++) {
			uint8_t *exact;
			size_t len;

			memcpy(input, seed, size);
			len = mutate(size);
			/* On the heap and of this size, so that a sanitizer
			 * sees a read beyond its end. */
			exact = malloc(len);
			if (!exact)
				abort();
			memcpy(exact, input, len);
			LLVMFuzzerTestOneInput(exact, len);
			free(exact);
		}
	}
	LLVMFuzzerTestOneInput(seed, 0);
}

static int write_seeds(const char *dir)
{
	size_t size;

	if (mkdir(dir, 0777) < 0 && access(dir, W_OK) < 0) {
		perror(dir);
		return EXIT_FAILURE;
	}
	for (unsigned n = 0; (size = fuzz_seed(n, seed, sizeof(seed))); n++) {
		char path[4096];
		FILE *f;

		snprintf(path, sizeof(path), "%s/seed-%u", dir, n);
		f = fopen(path, "we");
		if (!f || fwrite(seed, 1, size, f) != size || fclose(f)) {
			perror(path);
			return EXIT_FAILURE;
		}
	}
	return EXIT_SUCCESS;
}

static int run_file(const char *path)
{
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f) {
		perror(path);
		return EXIT_FAILURE;
	}
	n = fread(input, 1, sizeof(input), f);
	fclose(f);
	LLVMFuzzerTestOneInput(input, n);
	return EXIT_SUCCESS;
}

static int run_path(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	char inside[4096];
	int r = EXIT_SUCCESS;

	if (!dir)
		return run_file(path);
	while (r == EXIT_SUCCESS && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(inside, sizeof(inside), "%s/%s", path, e->d_name);
		r = run_file(inside);
	}
	closedir(dir);
	return r;
}

int main(int argc, char **argv)
{
	char *end = "";
	unsigned long rounds = ROUNDS;
	int r = EXIT_SUCCESS;

	if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
		return write_seeds(argv[2]);
	if (argc == 2)
		rounds = strtoul(argv[1], &end, 10);
	if (argc <= 2 && *end == '\0') {
		replay(rounds);
		return EXIT_SUCCESS;
	}
	for (int i = 1; i < argc && r == EXIT_SUCCESS; i++)
		r = run_path(argv[i]);
	return r;
}
