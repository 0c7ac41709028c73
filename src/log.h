/*
 * log: lines for the operator. In the worker they go to the host as `log` notifications ({level, message, meta});
 * in the command-line tools to stderr. Library code does not log; it returns errors. Held secrets are masked (secret.h).
 */
#ifndef LOG_H
#define LOG_H

#include <jansson.h>
#include <stdarg.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* "debug", "info", "warn", "error": the host's names. */
const char *log_level_name(enum log_level level);

/* Takes a line; meta is borrowed, may be NULL; invocation_id NULL if the line belongs to no request. */
typedef void log_sink_fn(void *arg, enum log_level level, const char *message, const json_t *meta, const char *invocation_id);

/* Where lines go from now on; NULL: nowhere. There is one sink a process. */
void log_set_sink(log_sink_fn *sink, void *arg);
/* meta is stolen; NULL: none. Never put secrets there. */
void log_write(enum log_level level, json_t *meta, const char *format, ...) __attribute__((format(printf, 3, 4)));
void log_vwrite(enum log_level level, json_t *meta, const char *invocation_id, const char *format, va_list ap)
	__attribute__((format(printf, 4, 0)));

#endif
