/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sections of other names, and names we do not know, are passed over, as is what is indented below a
 * name (settings of one service). A section may come several times; within a file the last value of a
 * name counts. "[profile default]" is preferred to "[default]", whatever their order.
 */
#include "proto/aws_profile.h"

#include "base/mem.h"

enum section { SECTION_NONE, SECTION_OTHER, SECTION_OURS, SECTION_BETTER };

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct sn_str trim(struct sn_str s)
{
	while (s.len > 0 && blank(s.ptr[s.len - 1]))
		s.len--;
	while (s.len > 0 && blank(*s.ptr)) {
		s.ptr++;
		s.len--;
	}
	return s;
}

/* Without the comment that a '#' or ';' behind a space begins. */
static struct sn_str without_comment(struct sn_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if ((s.ptr[i] == '#' || s.ptr[i] == ';') && (i == 0 || blank(s.ptr[i - 1])))
			s.len = i;
	}
	return trim(s);
}

static bool take_word(struct sn_str *s, struct sn_str word)
{
	if (s->len <= word.len || memcmp(s->ptr, word.ptr, word.len) != 0 ||
			!blank(s->ptr[word.len]))
		return false;
	*s = trim((struct sn_str){s->ptr + word.len, s->len - word.len});
	return true;
}

static struct sn_str unquote(struct sn_str s)
{
	if (s.len >= 2 && (s.ptr[0] == '"' || s.ptr[0] == '\'') && s.ptr[s.len - 1] == s.ptr[0])
		return (struct sn_str){s.ptr + 1, s.len - 2};
	return s;
}

/* "[...]" of a line; what stands behind it may only be a comment. */
static const char *read_section(
		struct sn_str line, bool config, struct sn_str name, enum section *ret_section)
{
	const char *end = memchr(line.ptr, ']', line.len);
	struct sn_str title, rest;
	bool prefixed;

	if (end == NULL)
		return "no ] behind the section's name";
	title = trim((struct sn_str){line.ptr + 1, (size_t)(end - line.ptr) - 1});
	rest = trim((struct sn_str){end + 1, line.len - (size_t)(end - line.ptr) - 1});
	if (rest.len > 0 && *rest.ptr != '#' && *rest.ptr != ';')
		return "something stands behind the section's ]";
	if (title.len == 0)
		return "a section without a name";
	prefixed = config && take_word(&title, SN_STR("profile"));
	*ret_section = SECTION_OTHER;
	if (!sn_str_eq(unquote(title), name))
		return NULL;
	if (prefixed || !config)
		*ret_section = SECTION_BETTER;
	else if (sn_str_eq(title, SN_STR("default")))
		*ret_section = SECTION_OURS;
	return NULL;
}

static bool is_other_way(struct sn_str name)
{
	static const char *const ways[] = {"role_arn", "sso_session", "sso_start_url",
			"credential_process", "web_identity_token_file", "source_profile",
			"credential_source"};

	for (size_t i = 0; i < SN_COUNT(ways); i++) {
		if (sn__str_ieq(name, sn_str_from(ways[i])))
			return true;
	}
	return false;
}

static void set(struct sn_aws_profile *p, struct sn_str name, struct sn_str value)
{
	const struct {
		const char *name;
		struct sn_str *value;
	} known[] = {
			{"region", &p->region},
			{"endpoint_url", &p->endpoint},
			{"aws_access_key_id", &p->id},
			{"aws_secret_access_key", &p->secret},
			{"aws_session_token", &p->token},
	};

	for (size_t i = 0; i < SN_COUNT(known); i++) {
		if (sn__str_ieq(name, sn_str_from(known[i].name)))
			*known[i].value = value;
	}
	if (value.len > 0 && is_other_way(name))
		p->unsupported = name;
}

static const char *read_property(struct sn_str line, struct sn_aws_profile *p)
{
	const char *equals = memchr(line.ptr, '=', line.len);
	struct sn_str name, value;

	if (equals == NULL)
		return "neither a [section] nor \"name = value\"";
	name = trim((struct sn_str){line.ptr, (size_t)(equals - line.ptr)});
	value = (struct sn_str){equals + 1, line.len - (size_t)(equals - line.ptr) - 1};
	if (name.len == 0)
		return "no name before the =";
	if (p != NULL)
		set(p, name, without_comment(value));
	return NULL;
}

static void merge_text(struct sn_str *into, struct sn_str from)
{
	if (into->len == 0)
		*into = from;
}

/* Key, secret and token belong together: those of one place. */
static void merge(struct sn_aws_profile *into, const struct sn_aws_profile *from)
{
	into->found |= from->found;
	merge_text(&into->region, from->region);
	merge_text(&into->endpoint, from->endpoint);
	merge_text(&into->unsupported, from->unsupported);
	if (into->id.len > 0 || into->secret.len > 0)
		return;
	into->id = from->id;
	into->secret = from->secret;
	into->token = from->token;
}

static struct sn_str next_line(struct sn_str *rest)
{
	const char *end = memchr(rest->ptr, '\n', rest->len);
	struct sn_str line = *rest;

	if (end != NULL)
		line.len = (size_t)(end - rest->ptr);
	rest->len -= line.len + (end != NULL);
	rest->ptr += line.len + (end != NULL);
	return line;
}

int sn__aws_profile_read(struct sn_str text, const char *file, bool config, struct sn_str name,
		struct sn_aws_profile *p, struct sn_error *err)
{
	struct sn_aws_profile ours = {0}, better = {0};
	enum section section = SECTION_NONE;
	unsigned n = 0;

	while (text.len > 0) {
		struct sn_str raw = next_line(&text), line = trim(raw);
		const char *wrong = NULL;

		n++;
		if (line.len == 0 || *line.ptr == '#' || *line.ptr == ';')
			continue;
		if (memchr(line.ptr, '\0', line.len) != NULL)
			wrong = "a NUL";
		else if (*raw.ptr == '[')
			wrong = read_section(line, config, name, &section);
		else if (section == SECTION_NONE)
			wrong = "no [section] stands before this";
		else if (!blank(*raw.ptr))
			wrong = read_property(line,
					section == SECTION_OURS                     ? &ours
							: section == SECTION_BETTER ? &better
										    : NULL);
		if (wrong != NULL)
			return sn__error_set(err, SN_E_PARSE, "%s:%u: %s", file, n, wrong);
		ours.found |= section == SECTION_OURS;
		better.found |= section == SECTION_BETTER;
	}
	merge(p, better.found ? &better : &ours);
	return 0;
}
