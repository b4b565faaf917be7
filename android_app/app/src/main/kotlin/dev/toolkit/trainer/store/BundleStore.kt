package dev.toolkit.trainer.store

import org.json.JSONException
import org.json.JSONObject
import java.io.File

private const val MANIFEST_LIMIT = 8L shl 20
const val BUNDLE_FORMAT_VERSION = 4

/** A bundle on this phone; [problem] says why it cannot be trained. */
data class Bundle(
    val name: String,
    val folder: File,
    val model: String,
    val bytes: Long,
    val layers: Int,
    val sequenceLengths: List<Int>,
    val lowering: String,
    val rank: Int,
    val targets: List<String>,
    val hasTokenizer: Boolean,
    val tokenizer: TokenizerName? = null,
    val problem: String? = null,
)

/** Which tokenizer a bundle has; data made with it carries the same, and the engine compares them. */
data class TokenizerName(val name: String, val sha256: String)

/** The bundles that were deployed or copied to this phone. */
class BundleStore(private val folders: AppFolders) {
    fun list(): List<Bundle> =
        folders.bundleRoots().flatMap { root ->
            root.listFiles().orEmpty().filter { it.isDirectory && Names.isValid(it.name) }.sortedBy { it.name }
        }.distinctBy { it.name }.map(::read)

    fun find(name: String): Bundle? =
        folders.bundleRoots().filter { Names.isValid(name) }.map { File(it, name) }
            .firstOrNull { it.isDirectory && it.isInside(it.parentFile!!) }?.let(::read)

    /** @throws AppException there is no such bundle or it is damaged */
    fun require(name: String?): Bundle {
        val checked = Names.check(name, "bundle")
        val bundle = find(checked)
            ?: throw AppException("There is no bundle “$checked” on this phone. Send it with: toolkit deploy --app")
        bundle.problem?.let { throw AppException("Bundle “$checked”: $it") }
        return bundle
    }

    private fun read(folder: File): Bundle =
        try {
            val text = File(folder, "manifest.json").readTextUpTo(MANIFEST_LIMIT)
            if (text == null) damaged(folder, "it is not complete. Send it again with: toolkit deploy --app")
            else parse(folder, JSONObject(text))
        } catch (_: JSONException) {
            damaged(folder, "its manifest cannot be read. Send it again with: toolkit deploy --app")
        }

    private fun parse(folder: File, manifest: JSONObject): Bundle {
        val shape = manifest.getJSONObject("shape")
        val lora = manifest.getJSONObject("lora")
        val files = manifest.getJSONObject("files")
        val lengths = manifest.getJSONArray("seq_lens")
        if (lengths.length() == 0) throw JSONException("no sequence length")
        val targets = lora.getJSONArray("targets")
        return Bundle(
            name = folder.name,
            folder = folder,
            model = manifest.getJSONObject("model").getString("name"),
            bytes = files.keys().asSequence().sumOf { files.getJSONObject(it).getLong("bytes") },
            layers = shape.getInt("layers"),
            sequenceLengths = List(lengths.length()) { lengths.getInt(it) },
            lowering = manifest.getString("lowering"),
            rank = lora.getInt("rank"),
            targets = List(targets.length()) { targets.getString(it) },
            hasTokenizer = files.has("tokenizer.json"),
            tokenizer = manifest.optJSONObject("tokenizer")?.let { TokenizerName(it.getString("name"), it.getString("sha256")) },
            problem = problemOf(folder, manifest, files),
        )
    }

    private fun problemOf(folder: File, manifest: JSONObject, files: JSONObject): String? {
        val version = manifest.optInt("format_version", -1)
        if (version != BUNDLE_FORMAT_VERSION) {
            return "it has format version $version, this app reads $BUNDLE_FORMAT_VERSION. " +
                "Export it again, or install the app of its version"
        }
        for (name in files.keys()) {
            val file = File(folder, name)
            if (!file.isInside(folder)) return "its manifest names a file outside of it. Do not use it"
            if (!file.isFile) return "$name is missing. Send it again with: toolkit deploy --app"
            val bytes = files.getJSONObject(name).getLong("bytes")
            if (file.length() != bytes) {
                return "$name has ${file.length()} bytes instead of $bytes. Send it again with: toolkit deploy --app"
            }
        }
        return null
    }

    private fun damaged(folder: File, why: String) =
        Bundle(folder.name, folder, folder.name, 0, 0, emptyList(), "", 0, emptyList(), false, problem = why)
}
