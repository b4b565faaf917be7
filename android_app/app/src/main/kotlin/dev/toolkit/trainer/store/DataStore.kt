package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.File
import org.json.JSONException
import org.json.JSONObject

private const val REPORT_LIMIT = 1L shl 20

/** Training data on this phone. [own] was made here from the user's text and can be deleted here. */
data class DataSet(
    val name: String,
    val folder: File,
    val own: Boolean,
    val sequences: Int,
    val sequenceLength: Int,
    val tokens: Long,
    val bundle: String?,
    val hasValidation: Boolean,
    val validationSequences: Int = 0,
    val documents: Int = 0,
) {
    // The generated one would name every field, also in the APK.
    override fun toString() = name

    val train: File get() = File(folder, "train.ptd")
    val validation: File get() = File(folder, "validation.ptd")
}

/** Data that was deployed, and data made from the user's text. */
class DataStore(private val folders: AppFolders) {
    fun list(): List<DataSet> = folders.dataRoots().flatMap { root ->
        root.listFiles().orEmpty().filter { it.isDirectory && Names.isValid(it.name) }.sortedBy { it.name }
    }.distinctBy { it.name }.mapNotNull(::read)

    fun find(name: String): DataSet? =
        folders.dataRoots().filter { Names.isValid(name) }.map { File(it, name) }
            .firstOrNull { it.isDirectory && it.isInside(it.parentFile!!) }?.let(::read)

    /** @throws AppException there is no such data set */
    fun require(name: String?): DataSet {
        val checked = Names.check(name, R.string.what_data)
        return find(checked) ?: throw AppException(
            Words.of(R.string.no_such_data, checked),
        )
    }

    /** Deletes data made from the user's text; data that was deployed is not touched. */
    fun delete(name: String) {
        val folder = File(folders.data, Names.check(name, R.string.what_data))
        if (folder.isInside(folders.data)) folder.deleteTree()
    }

    private fun read(folder: File): DataSet? =
        try {
            val report = JSONObject(File(folder, "data.json").readTextUpTo(REPORT_LIMIT) ?: "{}")
            val train = report.getJSONObject("train")
            DataSet(
                name = folder.name,
                folder = folder,
                own = folder.parentFile == folders.data,
                sequences = train.getInt("sequences"),
                sequenceLength = report.getJSONObject("settings").getInt("seq_len"),
                tokens = train.getLong("tokens"),
                bundle = report.optString("bundle").ifEmpty { null },
                hasValidation = report.has("validation") && File(folder, "validation.ptd").isFile,
                validationSequences = report.optJSONObject("validation")?.optInt("sequences") ?: 0,
                documents = train.optInt("documents"),
            ).takeIf { it.train.isFile }
        } catch (_: JSONException) {
            null
        }
}
