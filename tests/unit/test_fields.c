#include "protocol/fields.h"
#include "tap.h"

struct target {
	const char *text;
	const json_t *object;
	const json_t *array;
	bool flag;
	double number;
};

static const struct field table[] = {
	{"text", FIELD_STRING, offsetof(struct target, text), true},
	{"object", FIELD_OBJECT, offsetof(struct target, object), false},
	{"array", FIELD_ARRAY, offsetof(struct target, array), false},
	{"flag", FIELD_FLAG, offsetof(struct target, flag), false},
	{"number", FIELD_NUMBER, offsetof(struct target, number), false},
	{0},
};

static void check(const char *text, int want_rc, const char *want_error, const struct target *want)
{
	cleanup_json json_t *object = json_loads(text, JSON_ALLOW_NUL, NULL);
	struct target got = {.number = 7};
	cleanup_err struct err err = ERR_INIT;

	CHECK(object);
	CHECK_INT(fields_read(object, table, "params", &got, &err), want_rc);
	if (want_rc < 0) {
		CHECK(err_is(&err, ERR_INVALID));
		CHECK_STR(err_text(&err), want_error);
		return;
	}
	CHECK_STR(got.text, want->text);
	CHECK_INT(got.flag, want->flag);
	CHECK(got.number == want->number);
}

TEST(members_of_the_right_type_are_taken)
{
	check("{\"text\":\"a\",\"flag\":true,\"number\":2.5,\"object\":{},\"array\":[],\"unknown\":1}", 0, NULL,
	      &(struct target){.text = "a", .flag = true, .number = 2.5});
}

TEST(null_is_absent_and_odd_flags_and_numbers_are_as_in_the_reference)
{
	check("{\"text\":\"a\",\"flag\":\"true\",\"number\":\"3\",\"object\":null}", 0, NULL,
	      &(struct target){.text = "a", .flag = false, .number = 7});
}

TEST(errors_name_the_member)
{
	check("{}", -1, "params.text is required", NULL);
	check("{\"text\":null}", -1, "params.text is required", NULL);
	check("{\"text\":5}", -1, "params.text must be a string", NULL);
	check("{\"text\":\"a\\u0000b\"}", -1, "params.text must be a string without null bytes", NULL);
	check("{\"text\":\"a\",\"object\":[]}", -1, "params.object must be an object", NULL);
	check("{\"text\":\"a\",\"array\":{}}", -1, "params.array must be an array", NULL);
}

TEST_MAIN()
