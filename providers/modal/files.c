/* wire: modal, Staging of stdin. */
#include "modal.h"

#include "base/str.h"

#include <stdio.h>

#define OUTPUT_S 55
#define BREAKS_MAX 10
#define PIECE_BYTES ((size_t)16 << 20)

/* --- the outcome of one step --- */

struct outcome {
	bool done;
	bool failed;
	char *text; /* owned */
};

static int on_batch(void *arg, const ProtobufCMessage *message, struct err *err)
{
	struct outcome *outcome = arg;
	const Modal__FilesystemRuntimeOutputBatch *batch = (const Modal__FilesystemRuntimeOutputBatch *)message;

	if (batch->error) {
		outcome->failed = true;
		outcome->text = xstrdup(str_nonempty(batch->error->error_message) ? batch->error->error_message
										  : "the file cannot be written");
		return 1;
	}
	outcome->done = batch->has_eof && batch->eof;
	return outcome->done;
}

/* What the file system says is final: there is no more room the tenth time than there was the first. */
static int await_outcome(struct modal_session *s, const char *exec_id, struct err *err)
{
	for (unsigned breaks = 0;;) {
		cleanup_free char *id = xstrdup(exec_id);
		struct outcome outcome = {0};
		Modal__ContainerFilesystemExecGetOutputRequest request =
			MODAL__CONTAINER_FILESYSTEM_EXEC_GET_OUTPUT_REQUEST__INIT;
		struct modal_rpc rpc = {
			.name = "ContainerFilesystemExecGetOutput",
			.request = &request.base,
			.answer = &modal__filesystem_runtime_output_batch__descriptor,
			.timeout_ms = (OUTPUT_S + 15) * 1000,
			.on_message = on_batch,
			.arg = &outcome,
		};
		struct modal_fault fault;
		cleanup_err struct err e = ERR_INIT;

		request.exec_id = id;
		request.has_timeout = true;
		request.timeout = OUTPUT_S;
		int rc = modal_control(s, &rpc, NULL, NULL, &fault, &e);

		if (outcome.failed) {
			err_set(err, ERR_REMOTE, "%s", outcome.text);
			free(outcome.text);
			return -1;
		}
		if (rc == 0 && outcome.done)
			return 0;
		if (rc < 0 && !modal_is_passing(fault.status))
			return err_move(err, &e);
		if (++breaks > BREAKS_MAX)
			return rc < 0 ? err_move(err, &e)
				      : err_set(err, ERR_REMOTE, "Modal does not say how writing a file in the sandbox went");
		if (fiber_yield(err) < 0)
			return -1;
	}
}

/* --- steps --- */

/* *ret_descriptor, owned, of the step that opens; NULL: another one. */
static int step(struct modal_session *s, struct modal_lease *lease, Modal__ContainerFilesystemExecRequest *request,
		char **ret_descriptor, struct err *err)
{
	cleanup_free char *task_id = xstrdup(lease->task_id);
	cleanup_message Modal__ContainerFilesystemExecResponse *answer = NULL;
	struct modal_rpc rpc = {
		.name = "ContainerFilesystemExec",
		.request = &request->base,
		.answer = &modal__container_filesystem_exec_response__descriptor,
	};

	request->task_id = task_id;
	if (modal_control(s, &rpc, NULL, &answer, NULL, err) < 0)
		return -1;
	if (!str_nonempty(answer->exec_id) || (ret_descriptor && !str_nonempty(answer->file_descriptor)))
		return err_set(err, ERR_PROTOCOL, "Modal answered ContainerFilesystemExec without an id");
	if (await_outcome(s, answer->exec_id, err) < 0)
		return -1;
	if (ret_descriptor)
		*ret_descriptor = xstrdup(answer->file_descriptor);
	return 0;
}

static int open_file(struct modal_session *s, struct modal_lease *lease, const char *path, char **ret, struct err *err)
{
	cleanup_free char *name = xstrdup(path);
	char mode[] = "w";
	Modal__ContainerFileOpenRequest open = MODAL__CONTAINER_FILE_OPEN_REQUEST__INIT;
	Modal__ContainerFilesystemExecRequest request = MODAL__CONTAINER_FILESYSTEM_EXEC_REQUEST__INIT;

	open.path = name;
	open.mode = mode;
	request.file_open_request = &open;
	return step(s, lease, &request, ret, err);
}

static int write_piece(struct modal_session *s, struct modal_lease *lease, char *descriptor, const char *bytes, size_t n,
		       struct err *err)
{
	Modal__ContainerFileWriteRequest write = MODAL__CONTAINER_FILE_WRITE_REQUEST__INIT;
	Modal__ContainerFilesystemExecRequest request = MODAL__CONTAINER_FILESYSTEM_EXEC_REQUEST__INIT;

	write.file_descriptor = descriptor;
	write.has_data = true;
	write.data = (ProtobufCBinaryData){.len = n, .data = (uint8_t *)(uintptr_t)bytes};
	request.file_write_request = &write;
	return step(s, lease, &request, NULL, err);
}

static int write_all(struct modal_session *s, struct modal_lease *lease, char *descriptor, const char *bytes, size_t n,
		     struct err *err)
{
	Modal__ContainerFileFlushRequest flush = MODAL__CONTAINER_FILE_FLUSH_REQUEST__INIT;
	Modal__ContainerFilesystemExecRequest request = MODAL__CONTAINER_FILESYSTEM_EXEC_REQUEST__INIT;

	for (size_t at = 0; at == 0 || at < n; at += PIECE_BYTES)
		if (write_piece(s, lease, descriptor, bytes + at, n - at < PIECE_BYTES ? n - at : PIECE_BYTES, err) < 0)
			return -1;
	flush.file_descriptor = descriptor;
	request.file_flush_request = &flush;
	return step(s, lease, &request, NULL, err);
}

int modal_write_file(struct modal_session *s, struct modal_lease *lease, const char *path, const char *bytes, size_t n,
		     struct err *err)
{
	cleanup_free char *descriptor = NULL;
	Modal__ContainerFileCloseRequest close = MODAL__CONTAINER_FILE_CLOSE_REQUEST__INIT;
	Modal__ContainerFilesystemExecRequest request = MODAL__CONTAINER_FILESYSTEM_EXEC_REQUEST__INIT;

	if (open_file(s, lease, path, &descriptor, err) < 0)
		return -1;
	int rc = write_all(s, lease, descriptor, bytes, n, err);

	close.file_descriptor = descriptor;
	request.file_close_request = &close;
	(void)step(s, lease, &request, NULL, NULL);
	return rc;
}
