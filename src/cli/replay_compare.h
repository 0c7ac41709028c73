/*
 * replay_compare: is the answer of today the recorded one? Ids, times and temporary paths differ from run to run; what the worker
 * made up anew is remembered, so that the recorded requests that follow can name it.
 */
#ifndef CLI_REPLAY_COMPARE_H
#define CLI_REPLAY_COMPARE_H

#include "base/str.h"

#include <jansson.h>

struct replay_names {
	json_t *now; /* owned object: recorded text -> the text that stands for it now */
};

void replay_names_init(struct replay_names *names);
void replay_names_deinit(struct replay_names *names);

/* Remembers what differs only by made-up parts, in the two answers. */
void replay_names_learn(struct replay_names *names, const json_t *recorded, const json_t *now);
/* The recorded value with today's names: new reference. */
json_t *replay_names_apply(const struct replay_names *names, const json_t *recorded);

/* Adds a line for each difference to lines: "result.exitCode: recorded 0, now 1". */
void replay_compare(const struct replay_names *names, const json_t *recorded, const json_t *now, struct strv *lines);

#endif
