#include "log.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "secret.h"

static log_sink_fn *log_sink;
static void *log_sink_arg;

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};

	return names[level];
}

void log_set_sink(log_sink_fn *sink, void *arg)
{
	log_sink = sink;
	log_sink_arg = arg;
}

void log_vwrite(enum log_level level, json_t *meta, const char *invocation_id, const char *format, va_list ap)
{
	if (log_sink) {
		cleanup_free char *message = xvasprintf(format, ap);
		cleanup_json json_t *masked = secret_masked_json(meta);

		secret_mask_string(&message);
		log_sink(log_sink_arg, level, message, masked, invocation_id);
	}
	json_decref(meta);
}

void log_write(enum log_level level, json_t *meta, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_vwrite(level, meta, NULL, format, ap);
	va_end(ap);
}
