/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_TLS_CERT_H
#define SN_SRC_IO_TLS_CERT_H

/* Internal, tests only: certificates made when the test runs, in a directory of its own. */

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/test.h"

#define CERT_DAY 86400L

struct cert {
	EVP_PKEY *key;
	X509 *x509;
};

static char cert_dir[] = "/tmp/sinew-tls-XXXXXX";

static const char *cert_path(const char *name)
{
	static char path[8][256];
	static unsigned at;
	char *p = path[at++ % 8];

	(void)snprintf(p, sizeof path[0], "%s/%s", cert_dir, name);
	return p;
}

static void cert_extend(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

/* A certificate for @san (e.g. "DNS:a.test"; NULL: a CA) signed by @issuer (NULL: by itself), valid
 * from and to so many seconds from now. */
static struct cert cert_make(
		const char *cn, const char *san, const struct cert *issuer, long from_s, long to_s)
{
	static long serial;
	struct cert c = {EVP_EC_gen("P-256"), X509_new()};
	X509_NAME *name = X509_get_subject_name(c.x509);

	assert_non_null(c.key);
	assert_int_equal(X509_set_version(c.x509, X509_VERSION_3), 1);
	ASN1_INTEGER_set(X509_get_serialNumber(c.x509), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(c.x509), from_s);
	X509_gmtime_adj(X509_getm_notAfter(c.x509), to_s);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(c.x509, issuer != NULL ? X509_get_subject_name(issuer->x509) : name);
	X509_set_pubkey(c.x509, c.key);
	cert_extend(c.x509, issuer != NULL ? issuer->x509 : c.x509, NID_basic_constraints,
			san == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
	if (san != NULL)
		cert_extend(c.x509, issuer != NULL ? issuer->x509 : c.x509, NID_subject_alt_name,
				san);
	assert_true(X509_sign(c.x509, issuer != NULL ? issuer->key : c.key, EVP_sha256()) > 0);
	return c;
}

/* NAME.pem and NAME.key, replaced by rename as a tool for certificates does. */
static void cert_save(const struct cert *c, const char *name)
{
	char part[256], path[256];

	for (int key = 0; key < 2; key++) {
		FILE *f;

		(void)snprintf(path, sizeof path, "%s/%s.%s", cert_dir, name, key ? "key" : "pem");
		(void)snprintf(part, sizeof part, "%s.part", path);
		f = fopen(part, "we");
		assert_non_null(f);
		if (key)
			assert_int_equal(PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL),
					1);
		else
			assert_int_equal(PEM_write_X509(f, c->x509), 1);
		assert_int_equal(fclose(f), 0);
		assert_int_equal(rename(part, path), 0);
	}
}

static void cert_free(struct cert *c)
{
	EVP_PKEY_free(c->key);
	X509_free(c->x509);
}

/* ca (trusted), other (a CA nobody knows); by ca: good (a.test, 127.0.0.1), expired, early, client;
 * by other: unknown; stranger (client); by itself: self. */
static int cert_make_all(void **state)
{
	struct cert ca, other, c;
	static const struct {
		const char *name, *san;
		int by; /* 0: ca, 1: other, 2: itself */
		long from, to;
	} all[] = {
			{"good", "DNS:a.test,IP:127.0.0.1", 0, -CERT_DAY, CERT_DAY},
			{"named", "DNS:a.test", 0, -CERT_DAY, CERT_DAY},
			{"expired", "DNS:a.test,IP:127.0.0.1", 0, -9 * CERT_DAY, -CERT_DAY},
			{"early", "DNS:a.test,IP:127.0.0.1", 0, CERT_DAY, 9 * CERT_DAY},
			{"client", "DNS:client.test", 0, -CERT_DAY, CERT_DAY},
			{"unknown", "DNS:a.test,IP:127.0.0.1", 1, -CERT_DAY, CERT_DAY},
			{"stranger", "DNS:client.test", 1, -CERT_DAY, CERT_DAY},
			{"self", "DNS:a.test,IP:127.0.0.1", 2, -CERT_DAY, CERT_DAY},
	};

	if (mkdtemp(cert_dir) == NULL)
		return -1;
	ca = cert_make("Test CA", NULL, NULL, -CERT_DAY, 9 * CERT_DAY);
	other = cert_make("Other CA", NULL, NULL, -CERT_DAY, 9 * CERT_DAY);
	cert_save(&ca, "ca");
	cert_save(&other, "other");
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		c = cert_make(all[i].name, all[i].san,
				all[i].by == 0                   ? &ca
						: all[i].by == 1 ? &other
								 : NULL,
				all[i].from, all[i].to);
		cert_save(&c, all[i].name);
		cert_free(&c);
	}
	cert_free(&ca);
	cert_free(&other);
	return 0;
}

static int cert_remove_all(void **state)
{
	static const char *const names[] = {"ca", "other", "good", "named", "expired", "early",
			"client", "unknown", "stranger", "self", "live"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char path[256];

		(void)snprintf(path, sizeof path, "%s/%s.pem", cert_dir, names[i]);
		(void)unlink(path);
		(void)snprintf(path, sizeof path, "%s/%s.key", cert_dir, names[i]);
		(void)unlink(path);
	}
	return rmdir(cert_dir);
}

#endif
