package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.File
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

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
    val vocabulary: Int = 0,
    /** Whether it was imported into the app's own folder. */
    val own: Boolean = false,
    val problem: String? = null,
) {
    // The generated one would name every field, also in the APK.
    override fun toString() = name

    /** Tokens that end what the model writes, by its configuration. */
    val endTokens: List<Int> get() = try {
        when (val ends = JSONObject(File(folder, "config.json").readTextUpTo(MANIFEST_LIMIT) ?: "{}").opt("eos_token_id")) {
            is Int -> listOf(ends)
            is JSONArray -> List(ends.length()) { ends.getInt(it) }
            else -> emptyList()
        }
    } catch (_: JSONException) {
        emptyList()
    }
}

/** One name for each model, wherever it is shown: the model's own, with the folder's where two have the same. */
fun List<Bundle>.titles(): Map<String, String> {
    val count = groupingBy { it.model }.eachCount()
    return associate { it.name to if (count[it.model] == 1) it.model else "${it.model} (${it.name})" }
}

/** Whether the gradients of a lowering are not the model's own: toolkit/choices.py. */
fun isApproximate(lowering: String) = lowering == "approx-bp"

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
        val checked = Names.check(name, R.string.what_model)
        val bundle = find(checked)
            ?: throw AppException(Words.of(R.string.no_such_bundle, checked))
        bundle.problem?.let { throw AppException(Words.of(R.string.bundle_problem, checked, it)) }
        return bundle
    }

    /** Deletes a bundle that was imported here; one that was deployed is not this app's to delete. */
    fun delete(name: String) {
        val root = File(folders.own, "bundles")
        val folder = File(root, Names.check(name, R.string.what_model))
        if (folder.isInside(root)) folder.deleteTree()
    }

    private fun read(folder: File): Bundle =
        try {
            val text = File(folder, "manifest.json").readTextUpTo(MANIFEST_LIMIT)
            if (text == null) damaged(folder, Words.of(R.string.bundle_incomplete))
            else parse(folder, JSONObject(text))
        } catch (_: JSONException) {
            damaged(folder, Words.of(R.string.bundle_bad_manifest))
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
            vocabulary = shape.getInt("vocab_size"),
            own = folder.isInside(folders.own),
            problem = problemOf(folder, manifest, files),
        )
    }

    private fun problemOf(folder: File, manifest: JSONObject, files: JSONObject): String? {
        val version = manifest.optInt("format_version", -1)
        if (version != BUNDLE_FORMAT_VERSION) {
            return Words.of(R.string.bundle_version, version, BUNDLE_FORMAT_VERSION)
        }
        for (name in files.keys()) {
            val file = File(folder, name)
            if (!file.isInside(folder)) return Words.of(R.string.bundle_outside)
            if (!file.isFile) return Words.of(R.string.bundle_missing, name)
            val bytes = files.getJSONObject(name).getLong("bytes")
            if (file.length() != bytes) {
                return Words.of(R.string.bundle_size, name, file.length(), bytes)
            }
        }
        return null
    }

    private fun damaged(folder: File, why: String) =
        Bundle(folder.name, folder, folder.name, 0, 0, emptyList(), "", 0, emptyList(), false, own = folder.isInside(folders.own), problem = why)
}
