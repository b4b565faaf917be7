package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest
import java.util.zip.ZipEntry
import java.util.zip.ZipException
import java.util.zip.ZipInputStream
import org.json.JSONException
import org.json.JSONObject

private const val MANIFEST = "manifest.json"
private const val MANIFEST_BYTES = 8 shl 20

/** How far an import is, in bytes. */
class Imported(val done: Long, val total: Long)

/**
 * Takes a bundle in from the zip that `toolkit export --zip` writes, as a stream: every file goes to its place once, and
 * its size and hash are compared with the manifest's, which comes first. It appears under its name only when it is whole.
 */
class BundleImport(private val folders: AppFolders, private val onProgress: (Imported) -> Unit = {}) {
    @Volatile private var cancelled = false

    fun cancel() {
        cancelled = true
    }

    /**
     * Returns the name of the bundle.
     *
     * @throws AppException it is no bundle, damaged, of another version, there already, or too large for the storage
     */
    fun read(stream: InputStream): String {
        val root = File(folders.own, "bundles")
        // What an import that was killed left behind.
        root.listFiles().orEmpty().filter { it.name.endsWith(Leftovers.PART) }.forEach { it.deleteTree() }
        try {
            ZipInputStream(stream).use { zip -> return unpack(zip, root) }
        } catch (error: ZipException) {
            throw AppException(Words.of(R.string.import_damaged, error.message.orEmpty()), error)
        } catch (error: IOException) {
            throw AppException(Words.of(R.string.import_io, error.message.orEmpty()), error)
        } catch (error: JSONException) {
            throw AppException(Words.of(R.string.import_bad_manifest), error)
        } catch (error: IllegalArgumentException) {
            throw AppException(Words.of(R.string.import_damaged, error.message.orEmpty()), error)
        }
    }

    private fun unpack(zip: ZipInputStream, root: File): String {
        val (name, manifest) = manifest(zip)
        val target = File(root, name)
        // Also one that was deployed, which would hide behind it.
        if (target.exists() || BundleStore(folders).find(name) != null) throw AppException(Words.of(R.string.import_exists, name))
        val part = File(root, name + Leftovers.PART)
        try {
            Files(part, manifest).takeAll(zip, name)
            File(part, MANIFEST).writeAtomically { it.write(manifest.text.toByteArray()) }
            if (cancelled) throw AppException(Words.of(R.string.import_cancelled))
            if (!part.renameTo(target)) throw AppException(Words.of(R.string.import_unsaved))
        } finally {
            part.deleteTree()
        }
        return name
    }

    private class Manifest(val text: String) {
        val files: JSONObject
        val total: Long

        init {
            val json = JSONObject(text)
            val version = json.optInt("format_version", -1)
            if (version != BUNDLE_FORMAT_VERSION) {
                throw AppException(
                    Words.of(R.string.import_version, version, BUNDLE_FORMAT_VERSION),
                )
            }
            files = json.getJSONObject("files")
            total = files.keys().asSequence().sumOf { name ->
                val file = files.getJSONObject(name)
                val bytes = file.getLong("bytes")
                if (bytes < 0 || !HASH.matches(file.getString("sha256"))) throw JSONException("no size or hash of $name")
                bytes
            }
            if (total < 0) throw JSONException("sizes beyond any file")
        }
    }

    private fun manifest(zip: ZipInputStream): Pair<String, Manifest> {
        val entry: ZipEntry? = zip.nextEntry
        val name = entry?.name?.removeSuffix("/$MANIFEST").orEmpty()
        if (entry == null || !entry.name.endsWith("/$MANIFEST") || '/' in name) {
            throw AppException(Words.of(R.string.import_no_model))
        }
        val bytes = zip.readUpTo(MANIFEST_BYTES) ?: throw AppException(Words.of(R.string.import_long_manifest))
        try {
            return Names.check(name, R.string.what_model) to Manifest(String(bytes, Charsets.UTF_8))
        } catch (error: JSONException) {
            throw AppException(Words.of(R.string.import_bad_manifest), error)
        }
    }

    /** The files of one bundle on their way. */
    private inner class Files(private val folder: File, private val manifest: Manifest) {
        private val missing = manifest.files.keys().asSequence().toMutableSet()
        private var done = 0L

        fun takeAll(zip: ZipInputStream, name: String) {
            folder.mkdirs()
            val free = folder.usableSpace
            if (free - SPARE_BYTES < manifest.total) {
                throw AppException(Words.of(R.string.import_space, (manifest.total + SPARE_BYTES) / 1_000_000, free / 1_000_000))
            }
            while (missing.isNotEmpty()) {
                val entry = zip.nextEntry ?: throw AppException(Words.of(R.string.import_ends, missing.first()))
                val file = entry.name.removePrefix("$name/")
                if (!missing.remove(file)) throw AppException(Words.of(R.string.import_stranger, file.take(60)))
                take(zip, file, manifest.files.getJSONObject(file))
            }
        }

        private fun take(zip: ZipInputStream, name: String, wanted: JSONObject) {
            val target = File(folder, name)
            if (!target.isInside(folder)) throw AppException(Words.of(R.string.import_outside))
            target.parentFile?.mkdirs()
            val digest = MessageDigest.getInstance("SHA-256")
            val begin = done
            FileOutputStream(target).use { out ->
                val chunk = ByteArray(1 shl 18)
                while (true) {
                    val count = zip.read(chunk)
                    if (count < 0) break
                    if (cancelled) throw AppException(Words.of(R.string.import_cancelled))
                    done += count
                    if (done - begin > wanted.getLong("bytes")) break
                    digest.update(chunk, 0, count)
                    out.write(chunk, 0, count)
                    onProgress(Imported(done, manifest.total))
                }
                out.fd.sync()
            }
            val hash = digest.digest().joinToString("") { "%02x".format(it) }
            if (done - begin != wanted.getLong("bytes") || hash != wanted.getString("sha256")) {
                throw AppException(Words.of(R.string.import_hash, name))
            }
        }
    }

    private fun InputStream.readUpTo(limit: Int): ByteArray? {
        val chunk = ByteArray(1 shl 16)
        val all = java.io.ByteArrayOutputStream()
        while (true) {
            val count = read(chunk)
            if (count < 0) return all.toByteArray()
            all.write(chunk, 0, count)
            if (all.size() > limit) return null
        }
    }

    private companion object {
        /** What an import leaves free: a phone whose storage is full misbehaves, and a run has to save. */
        const val SPARE_BYTES = 256L shl 20
        val HASH = Regex("[0-9a-f]{64}")
    }
}
