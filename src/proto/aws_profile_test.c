/* SPDX-License-Identifier: Apache-2.0 */
/* The shared files of the AWS SDKs. */
#include "base/test.h"
#include "proto/aws_profile.h"

static void is(struct sn_str s, const char *want)
{
	if (!sn_str_eq(s, sn_str_from(want)))
		fail_msg("\"%.*s\" and not \"%s\"", (int)s.len, s.ptr != NULL ? s.ptr : "", want);
}

static void credentials_file(void **state)
{
	static const char text[] = "# keys\n"
				   "[default]\n"
				   "aws_access_key_id = AKID\n"
				   "aws_secret_access_key=a/b+c=#;d\r\n"
				   "\n"
				   "  [other] \n" /* indented: belongs to the name above */
				   "[ work ] ; mine\n"
				   "AWS_ACCESS_KEY_ID\t=\tWORK  # why\n"
				   "aws_secret_access_key = first\n"
				   "aws_secret_access_key = second\n"
				   "aws_session_token = t\n"
				   "region = eu-north-1\n"
				   "nonsense = 1\n"
				   "[profile odd]\n"
				   "region = x\n"
				   "[work]\n"
				   "aws_session_token =";
	struct sn_aws_profile p = {0}, w = {0}, odd = {0}, none = {0};

	assert_int_equal(sn__aws_profile_read(sn_str_from(text), "f", false, SN_STR("default"), &p,
					 NULL),
			0);
	assert_true(p.found);
	is(p.id, "AKID");
	is(p.secret, "a/b+c=#;d");
	is(p.token, "");
	is(p.region, "");
	assert_int_equal(sn__aws_profile_read(
					 sn_str_from(text), "f", false, SN_STR("work"), &w, NULL),
			0);
	is(w.id, "WORK");
	is(w.secret, "second");
	is(w.token, "");
	is(w.region, "eu-north-1");
	assert_int_equal(sn__aws_profile_read(sn_str_from(text), "f", false, SN_STR("profile odd"),
					 &odd, NULL),
			0);
	is(odd.region, "x");
	assert_int_equal(sn__aws_profile_read(sn_str_from(text), "f", false, SN_STR("other"), &none,
					 NULL),
			0);
	assert_false(none.found);
}

static void config_file(void **state)
{
	static const char text[] = "[default]\nregion = a\nendpoint_url = http://e\n"
				   "s3 =\n  region = nested\n"
				   "[profile \"my work\"]\nregion=b\nrole_arn = arn\n"
				   "[other]\nregion=c\n"
				   "[sso-session other]\nregion=d\n"
				   "[profile  other]\nregion=e\n";
	static const char both[] = "[profile default]\nregion = better\n[default]\nregion = a\n"
				   "aws_access_key_id = x\n";
	struct sn_aws_profile p = {0}, w = {0}, o = {0}, b = {0};

	assert_int_equal(sn__aws_profile_read(
					 sn_str_from(text), "f", true, SN_STR("default"), &p, NULL),
			0);
	is(p.region, "a");
	is(p.endpoint, "http://e");
	is(p.unsupported, "");
	assert_int_equal(sn__aws_profile_read(
					 sn_str_from(text), "f", true, SN_STR("my work"), &w, NULL),
			0);
	is(w.region, "b");
	is(w.unsupported, "role_arn");
	assert_int_equal(sn__aws_profile_read(
					 sn_str_from(text), "f", true, SN_STR("other"), &o, NULL),
			0);
	is(o.region, "e");
	assert_int_equal(sn__aws_profile_read(
					 sn_str_from(both), "f", true, SN_STR("default"), &b, NULL),
			0);
	is(b.region, "better");
	is(b.id, "");
}

/* What the first file says stays; key, secret and token come from one file. */
static void both_files(void **state)
{
	struct sn_aws_profile p = {0};

	assert_int_equal(sn__aws_profile_read(SN_STR("[a]\naws_access_key_id=1\n"
						     "aws_secret_access_key=2\n"),
					 "f", false, SN_STR("a"), &p, NULL),
			0);
	assert_int_equal(sn__aws_profile_read(SN_STR("[profile a]\naws_access_key_id=3\n"
						     "aws_secret_access_key=4\n"
						     "aws_session_token=5\nregion=r\n"),
					 "f", true, SN_STR("a"), &p, NULL),
			0);
	is(p.id, "1");
	is(p.secret, "2");
	is(p.token, "");
	is(p.region, "r");
}

static void refused(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
			{"region = x\n", "my/file:1: no [section] stands before this"},
			{"\n# c\n[a\n", "my/file:3: no ] behind the section's name"},
			{"[a] secret\n", "my/file:1: something stands behind the section's ]"},
			{"[]\n", "my/file:1: a section without a name"},
			{"[ ]\n", "my/file:1: a section without a name"},
			{"[a]\nsecret\n", "my/file:2: neither a [section] nor \"name = value\""},
			{"[b]\n = secret\n[a]\n= secret", "my/file:4: no name before the ="},
	};
	struct sn_error err;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct sn_aws_profile p = {0};

		assert_int_equal(sn__aws_profile_read(sn_str_from(cases[i].text), "my/file", false,
						 SN_STR("a"), &p, &err),
				SN_E_PARSE);
		assert_string_equal(sn_error_text(&err), cases[i].want);
		assert_false(p.found);
	}
	assert_int_equal(sn__aws_profile_read((struct sn_str){"[a]\nx=\0y\n", 10}, "f", false,
					 SN_STR("a"), &(struct sn_aws_profile){0}, &err),
			SN_E_PARSE);
	assert_string_equal(sn_error_text(&err), "f:2: a NUL");
	assert_int_equal(sn__aws_profile_read((struct sn_str){0}, "f", false, SN_STR("a"),
					 &(struct sn_aws_profile){0}, &err),
			0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(credentials_file),
			cmocka_unit_test(config_file),
			cmocka_unit_test(both_files),
			cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
