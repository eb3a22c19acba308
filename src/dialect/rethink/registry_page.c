/* SPDX-License-Identifier: Apache-2.0 */
/* The status page of the domain registry: whatever comes from outside is escaped. */
#include "base/mem.h"
#include "dialect/rethink/registry_http.h"

static void raw(struct sn_reg_page *page, struct sn_buf *out, const char *text)
{
	if (page->r == 0)
		page->r = sn__buf_puts(out, text);
}

static void number(struct sn_reg_page *page, struct sn_buf *out, int64_t n)
{
	if (page->r == 0)
		page->r = sn__buf_printf(out, "%lld", (long long)n);
}

static void escaped(struct sn_reg_page *page, struct sn_buf *out, struct sn_str text)
{
	for (size_t i = 0; i < text.len && page->r == 0; i++) {
		switch (text.ptr[i]) {
		case '<':
			raw(page, out, "&lt;");
			break;
		case '>':
			raw(page, out, "&gt;");
			break;
		case '&':
			raw(page, out, "&amp;");
			break;
		case '"':
			raw(page, out, "&quot;");
			break;
		case '\'':
			raw(page, out, "&#39;");
			break;
		default:
			page->r = sn__buf_append(out, text.ptr + i, 1);
		}
	}
}

/* One segment of a path. */
static void encoded(struct sn_reg_page *page, struct sn_buf *out, struct sn_str text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.len && page->r == 0; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		char triple[3] = {'%', hex[c >> 4], hex[c & 15]};
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				(c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' ||
				c == '~';

		page->r = sn__buf_append(out, plain ? (const char *)&c : triple, plain ? 1 : 3);
	}
}

static void link_to(
		struct sn_reg_page *page, struct sn_buf *out, const char *what, struct sn_str id)
{
	raw(page, out, page->secure ? "<a href=\"https://" : "<a href=\"http://");
	escaped(page, out, sn_str_from(page->host));
	raw(page, out, what);
	encoded(page, out, id);
	raw(page, out, "\">");
	escaped(page, out, id);
	raw(page, out, "</a>");
}

void sn__reg_page_begin(struct sn_reg_page *page, const char *storage, uint64_t n_guids,
		uint64_t n_hyperties)
{
	sn__buf_init(&page->guid, SN_REG_ID_MAX + 1);
	sn__buf_init(&page->user, SN_REG_ID_MAX + 1);
	sn__buf_init(&page->items, SN_REG_ANSWER_MAX);
	raw(page, page->out,
			"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
			"<title>Domain Registry</title><style>div{border:1px solid #999;margin:8px;"
			"padding:8px}</style></head><body>\n<h1>Domain Registry Status Page</h1>\n"
			"<h3>Storage type: ");
	raw(page, page->out, storage);
	raw(page, page->out, ", Users with Hyperties: ");
	number(page, page->out, (int64_t)n_guids);
	raw(page, page->out, ", Hyperties stored: ");
	number(page, page->out, (int64_t)n_hyperties);
	raw(page, page->out, "</h3>\n");
}

/* The box of a guid is written when all in it is known. */
static void close_box(struct sn_reg_page *page)
{
	if (page->n == 0)
		return;
	raw(page, page->out, "<div><h2>GUID: ");
	escaped(page, page->out, sn__buf_str(&page->guid));
	raw(page, page->out, " User: ");
	link_to(page, page->out, "/hyperty/user/", sn__buf_str(&page->user));
	raw(page, page->out, " Total Hyperties: ");
	number(page, page->out, (int64_t)page->n);
	raw(page, page->out, " Active Hyperties: ");
	number(page, page->out, (int64_t)page->n_live);
	raw(page, page->out, " Disconnected Hyperties: ");
	number(page, page->out, (int64_t)(page->n - page->n_live));
	raw(page, page->out, "</h2>\n");
	if (page->r == 0)
		page->r = sn__buf_append_str(page->out, sn__buf_str(&page->items));
	raw(page, page->out, "</div>\n");
	page->n = page->n_live = 0;
	sn__buf_clear(&page->items);
}

static void open_box(struct sn_reg_page *page, const struct sn_reg_entry *e, struct sn_str guid)
{
	sn__buf_clear(&page->guid);
	sn__buf_clear(&page->user);
	if (page->r == 0)
		page->r = sn__buf_append_str(&page->guid, guid);
	if (page->r == 0)
		page->r = sn__buf_append_str(&page->user, e->user);
}

static void item(struct sn_reg_page *page, const char *name, struct sn_str text)
{
	raw(page, &page->items, "<li>");
	raw(page, &page->items, name);
	raw(page, &page->items, ": ");
	escaped(page, &page->items, text);
	raw(page, &page->items, "</li>");
}

/* The items of a JSON array of strings, joined by commas. */
static void item_list(struct sn_reg_page *page, const char *name, struct sn_str list)
{
	raw(page, &page->items, "<li>");
	raw(page, &page->items, name);
	raw(page, &page->items, ": ");
	for (size_t i = 1; i + 1 < list.len; i++) {
		if (list.ptr[i] == '\\' && i + 2 < list.len)
			i++;
		else if (list.ptr[i] == '"')
			continue;
		escaped(page, &page->items, (struct sn_str){list.ptr + i, 1});
	}
	raw(page, &page->items, "</li>");
}

static void item_time(struct sn_reg_page *page, const char *name, int64_t s)
{
	char text[SN_REG_TIME_MAX];

	item(page, name, (struct sn_str){text, sn__reg_time(s, text)});
}

void sn__reg_page_entry(struct sn_reg_page *page, const struct sn_reg_entry *e, struct sn_str guid)
{
	const struct sn_str *t = e->v.text;

	if (page->n > 0 &&
			(!sn_str_eq(sn__buf_str(&page->guid), guid) ||
					!sn_str_eq(sn__buf_str(&page->user), e->user)))
		close_box(page);
	if (page->n == 0)
		open_box(page, e, guid);
	page->n++;
	page->n_all++;
	page->n_live += sn_str_eq(t[SN_REG_STATUS], SN_STR("live"));
	raw(page, &page->items, "<div><h3>HypertyID: ");
	link_to(page, &page->items, "/hyperty/url/", e->id);
	raw(page, &page->items, "</h3><ul>");
	item(page, "Descriptor", t[SN_REG_DESCRIPTOR]);
	item_list(page, "DataSchemes", t[SN_REG_SCHEMES]);
	item_time(page, "Starting Time", e->started);
	item_time(page, "Last Modified", e->modified);
	item(page, "Status", t[SN_REG_STATUS]);
	raw(page, &page->items, "<li>Expires: ");
	number(page, &page->items, e->v.expires);
	raw(page, &page->items, "</li>");
	item_list(page, "Resources", t[SN_REG_RESOURCES]);
	item(page, "Peer-To-Peer Requester", t[SN_REG_REQUESTER]);
	item(page, "Peer-To-Peer Handler", t[SN_REG_HANDLER]);
	item(page, "Runtime", t[SN_REG_RUNTIME]);
	raw(page, &page->items, "</ul></div>\n");
}

void sn__reg_page_end(struct sn_reg_page *page)
{
	close_box(page);
	if (page->n_all == SN_REG_PAGE_MAX)
		raw(page, page->out, "<p>No more than that is shown.</p>\n");
	raw(page, page->out, "</body></html>\n");
	sn__buf_finish(&page->guid);
	sn__buf_finish(&page->user);
	sn__buf_finish(&page->items);
}
