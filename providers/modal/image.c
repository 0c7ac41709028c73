/* wire: modal, Operations, Create: the app and the image that a sandbox is made of. */
#include "modal.h"

#include "base/str.h"

#define BUILDER_VERSION "2024.10"
#define JOIN_S 55
#define JOIN_BREAKS_MAX 10
#define JOIN_PAUSE_MS 250

enum { RESULT_NONE, RESULT_SUCCESS, RESULT_FAILURE, RESULT_TERMINATED, RESULT_TIMEOUT };

void modal_tell(const struct modal_purpose *purpose, const char *code, const char *format, ...)
{
	va_list ap;

	if (!purpose->on_step)
		return;
	va_start(ap, format);
	cleanup_free char *text = xvasprintf(format, ap);
	va_end(ap);
	purpose->on_step(purpose->arg, code, text);
}

int modal_need_id(const char *value, const char *rpc, struct err *err)
{
	return str_nonempty(value) ? 0 : err_set(err, ERR_PROTOCOL, "Modal answered %s without an id", rpc);
}

/* --- app --- */

int modal_app_get(struct modal_session *s, const struct modal_purpose *purpose, char **ret, struct err *err)
{
	Modal__AppGetOrCreateRequest request = MODAL__APP_GET_OR_CREATE_REQUEST__INIT;
	cleanup_message Modal__AppGetOrCreateResponse *answer = NULL;
	struct modal_rpc rpc = {
		.name = "AppGetOrCreate", .request = &request.base, .answer = &modal__app_get_or_create_response__descriptor};
	struct modal_fault fault;
	cleanup_err struct err e = ERR_INIT;

	request.app_name = s->config.app_name;
	request.environment_name = s->config.environment;
	request.has_object_creation_type = true;
	request.object_creation_type = 1; /* if it is missing */
	if (modal_control(s, &rpc, NULL, &answer, &fault, &e) < 0) {
		if (fault.status == GRPC_NOT_FOUND)
			return err_set(err, ERR_NOT_FOUND, "App '%s' not found", s->config.app_name);
		return err_move(err, &e);
	}
	if (modal_need_id(answer->app_id, rpc.name, err) < 0)
		return -1;
	modal_tell(purpose, "modal.app", "The app %s is there (%s).", s->config.app_name, answer->app_id);
	*ret = xstrdup(answer->app_id);
	return 0;
}

/* --- image --- */

static int judge_build(const char *image_id, const Modal__GenericResult *result, struct err *err)
{
	switch (result->status) {
	case RESULT_SUCCESS:
		return 0;
	case RESULT_FAILURE:
		return err_set(err, ERR_REMOTE, "Image build for %s failed with the exception:\n%s", image_id,
			       result->exception ? result->exception : "");
	case RESULT_TERMINATED:
		return err_set(err, ERR_REMOTE, "Image build for %s terminated due to external shut-down. Please try again.",
			       image_id);
	case RESULT_TIMEOUT:
		return err_set(err, ERR_REMOTE, "Image build for %s timed out. Please try again with a larger timeout parameter.",
			       image_id);
	default:
		return err_set(err, ERR_REMOTE, "Image build for %s failed with unknown status: %d", image_id,
			       (int)result->status);
	}
}

bool modal_result_is_over(const Modal__GenericResult *result)
{
	return result && result->status != RESULT_NONE;
}

struct build {
	const char *image_id;
	char *last_entry; /* owned */
	bool over, moved;
	int verdict;
	struct err err;
};

static int on_build(void *arg, const ProtobufCMessage *message, struct err *err)
{
	struct build *b = arg;
	const Modal__ImageJoinStreamingResponse *item = (const Modal__ImageJoinStreamingResponse *)message;

	b->moved = true;
	if (str_nonempty(item->entry_id)) {
		free(b->last_entry);
		b->last_entry = xstrdup(item->entry_id);
	}
	if (!modal_result_is_over(item->result))
		return 0;
	b->over = true;
	b->verdict = judge_build(b->image_id, item->result, &b->err);
	return 1;
}

/* Until the build is over; a stream that breaks goes on behind the entry that came last. */
static int join_build(struct modal_session *s, struct build *b, struct err *err)
{
	for (unsigned breaks = 0; !b->over;) {
		Modal__ImageJoinStreamingRequest request = MODAL__IMAGE_JOIN_STREAMING_REQUEST__INIT;
		cleanup_free char *image_id = xstrdup(b->image_id);
		char empty[] = "";
		struct modal_rpc rpc = {
			.name = "ImageJoinStreaming",
			.request = &request.base,
			.answer = &modal__image_join_streaming_response__descriptor,
			.timeout_ms = (JOIN_S + 15) * 1000,
			.on_message = on_build,
			.arg = b,
		};
		struct modal_fault fault;
		cleanup_err struct err e = ERR_INIT;

		request.image_id = image_id;
		request.has_timeout = true;
		request.timeout = JOIN_S;
		request.last_entry_id = b->last_entry ? b->last_entry : empty;
		b->moved = false;
		int rc = modal_control(s, &rpc, NULL, NULL, &fault, &e);

		if (b->moved)
			breaks = 0;
		if (rc == 0 && b->moved)
			continue;
		bool asked = rc < 0 && fault.retry_after_ms >= 0;

		if (rc < 0 && !asked && (!modal_is_passing(fault.status) || ++breaks > JOIN_BREAKS_MAX))
			return err_move(err, &e);
		if (fiber_sleep(asked ? fault.retry_after_ms : JOIN_PAUSE_MS, err) < 0)
			return -1;
	}
	return b->verdict < 0 ? err_move(err, &b->err) : 0;
}

int modal_image_get(struct modal_session *s, const struct modal_purpose *purpose, const char *app_id, char **ret, struct err *err)
{
	cleanup_free char *command = xasprintf("FROM %s", s->config.image);
	cleanup_free char *app = xstrdup(app_id);
	char builder[] = BUILDER_VERSION, *commands[] = {command};
	Modal__Image image = MODAL__IMAGE__INIT;
	Modal__ImageGetOrCreateRequest request = MODAL__IMAGE_GET_OR_CREATE_REQUEST__INIT;
	cleanup_message Modal__ImageGetOrCreateResponse *answer = NULL;
	struct modal_rpc rpc = {
		.name = "ImageGetOrCreate", .request = &request.base, .answer = &modal__image_get_or_create_response__descriptor};

	image.n_dockerfile_commands = 1;
	image.dockerfile_commands = commands;
	request.image = &image;
	request.app_id = app;
	request.builder_version = builder;
	if (modal_control(s, &rpc, NULL, &answer, NULL, err) < 0 || modal_need_id(answer->image_id, rpc.name, err) < 0)
		return -1;
	if (modal_result_is_over(answer->result)) {
		if (judge_build(answer->image_id, answer->result, err) < 0)
			return -1;
	} else {
		struct build b = {.image_id = answer->image_id};
		int rc = join_build(s, &b, err);

		free(b.last_entry);
		err_clear(&b.err);
		if (rc < 0)
			return -1;
	}
	modal_tell(purpose, "modal.image", "The image %s is built (%s).", s->config.image, answer->image_id);
	*ret = xstrdup(answer->image_id);
	return 0;
}
