/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

#include "base/json.h"
#include "proto/json_pull.h"

struct sn_hub_node *sn__hub_node_ref(struct sn_hub_node *node)
{
	node->refs++;
	return node;
}

void sn__hub_node_unref(struct sn_hub_node *node)
{
	if (node != NULL && --node->refs == 0)
		sn__free(node);
}

/* Where a text is put: the node and its texts are one block. */
static const char *place(char **at, struct sn_str s)
{
	char *text = *at;

	if (s.len > 0)
		memcpy(text, s.ptr, s.len);
	text[s.len] = '\0';
	*at += s.len + 1;
	return text;
}

static struct sn_hub_node *block(size_t bytes, uint64_t revision, char **ret_at)
{
	struct sn_hub_node *node = sn__malloc(sizeof(*node) + bytes);

	if (node == NULL)
		return NULL;
	*node = (struct sn_hub_node){.refs = 1, .revision = revision};
	*ret_at = (char *)(node + 1);
	return node;
}

int sn__hub_node_create(struct sn_str id, struct sn_str address, struct sn_str owner,
		struct sn_str attributes, uint64_t revision, struct sn_hub_node **ret_node)
{
	char *at;
	struct sn_hub_node *node = block(
			id.len + address.len + owner.len + attributes.len + 4, revision, &at);

	if (node == NULL)
		return SN_E_NOMEM;
	node->id = place(&at, id);
	node->address = place(&at, address);
	node->owner = place(&at, owner);
	node->attributes = place(&at, attributes);
	*ret_node = node;
	return 0;
}

static const char *place_json(char **at, struct sn_json_string s)
{
	char *text = *at;

	text[sn__json_unescape(s, text)] = '\0';
	*at += s.raw.len + 1;
	return text;
}

int sn__hub_node_read(
		const struct sn_hub_entry *entry, struct sn_str id, struct sn_hub_node **ret_node)
{
	struct sn_json_string key, address = {{"", 0}, false}, owner = {{"", 0}, false};
	struct sn_str attributes = SN_STR("{}");
	struct sn_json_pull r;
	struct sn_hub_node *node;
	char *at;
	int code;

	if (memchr(id.ptr, '\0', id.len) != NULL)
		return SN_E_PARSE;
	sn__json_begin(&r, entry->value);
	code = sn__json_enter_object(&r);
	while (code == 0 && (code = sn__json_member(&r, &key)) > 0) {
		if (sn__json_string_is(key, SN_STR("address")))
			code = sn__json_string(&r, &address);
		else if (sn__json_string_is(key, SN_STR("owner")))
			code = sn__json_string(&r, &owner);
		else if (sn__json_string_is(key, SN_STR("attributes")) &&
				sn__json_peek(&r) == SN_JSON_OBJECT)
			code = sn__json_skip(&r, &attributes);
		else
			code = sn__json_skip(&r, NULL);
	}
	if (code == 0)
		code = sn__json_finish(&r);
	if (code < 0 || address.raw.len == 0)
		return SN_E_PARSE;
	node = block(id.len + address.raw.len + owner.raw.len + attributes.len + 4, entry->revision,
			&at);
	if (node == NULL)
		return SN_E_NOMEM;
	node->id = place(&at, id);
	node->address = place_json(&at, address);
	node->owner = place_json(&at, owner);
	node->attributes = place(&at, attributes);
	*ret_node = node;
	return 0;
}

int sn__hub_node_write(const char *id, const char *address, const char *owner,
		const char *attributes, struct sn_buf *out, size_t *ret_key_len)
{
	int r = sn__buf_puts(out, HUB_NODES);

	if (r == 0)
		r = sn__buf_puts(out, id);
	if (r < 0)
		return r;
	*ret_key_len = out->len;
	r = sn__buf_puts(out, "{\"address\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(address), out);
	if (r == 0)
		r = sn__buf_puts(out, ",\"owner\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(owner), out);
	if (r == 0)
		r = sn__buf_puts(out, ",\"attributes\":");
	if (r == 0)
		r = sn__buf_puts(out, attributes);
	return r < 0 ? r : sn__buf_puts(out, "}");
}
