package dev.toolkit.trainer.store

import android.content.Context
import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.File
import java.io.IOException

/** The little model and the short text that the app brings along (tools/android/make_sample.py), for a first run of a minute. */
class Sample(
    private val context: Context, private val folders: AppFolders, private val bundles: BundleStore, private val data: DataStore,
    private val runs: RunStore,
) {
    /**
     * Puts model, text and run where they belong, as far as they are not there; takes about a second.
     *
     * @throws AppException the storage is full, or this build has no sample
     */
    fun prepare(): Run {
        val bundle = model()
        val text = data.find(NAME)?.takeIf { it.bundle == MODEL } ?: text(bundle)
        return runs.find(NAME)?.takeIf(::isOf) ?: runs.create(NAME, bundle, text, SETTINGS)
    }

    private fun model(): Bundle {
        val there = bundles.find(MODEL)
        if (there != null && there.problem == null) return there
        if (there?.own == true) bundles.delete(MODEL)
        try {
            BundleImport(folders).read(context.assets.open("$MODEL.zip"))
        } catch (error: IOException) {
            throw AppException(Words.of(R.string.sample_missing), error)
        }
        return bundles.require(MODEL)
    }

    private fun text(bundle: Bundle): DataSet {
        if (data.find(NAME) != null) throw AppException(Words.of(R.string.data_exists, NAME))
        File(folders.data, NAME).deleteTree() // torn
        val text = try {
            context.assets.open("$MODEL.txt").use { it.readBytes().decodeToString() }
        } catch (error: IOException) {
            throw AppException(Words.of(R.string.sample_missing), error)
        }
        return TextData(folders).make(NAME, bundle, listOf(text))
    }

    companion object {
        /** Of the text and the run: none that a person would choose. */
        const val NAME = "jane-austen-sample"

        /** Of the model, as its file has it. */
        const val MODEL = "sample"

        /** The rate suits a model as small as this one; tools/android/make_sample.py trains with the same. */
        val SETTINGS = RunSettings(
            steps = 160, learningRate = 5e-3, gradientAccumulation = 4, schedule = "cosine", warmupSteps = 8, maxGradNorm = 1.0,
            evalEvery = 20, keep = "best",
        )

        fun isOf(run: Run) = run.bundle == MODEL && run.data == NAME
    }
}
