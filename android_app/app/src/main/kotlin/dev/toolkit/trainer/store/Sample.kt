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
        val text = data.find(NAME)?.takeIf { it.bundle == NAME } ?: text(bundle)
        return runs.find(NAME)?.takeIf(::isOf) ?: runs.create(NAME, bundle, text, SETTINGS)
    }

    private fun model(): Bundle {
        val there = bundles.find(NAME)
        if (there != null && there.problem == null) return there
        if (there?.own == true) bundles.delete(NAME)
        try {
            BundleImport(folders).read(context.assets.open("$ASSET.zip"))
        } catch (error: IOException) {
            throw AppException(Words.of(R.string.sample_missing), error)
        }
        return bundles.require(NAME)
    }

    private fun text(bundle: Bundle): DataSet {
        if (data.find(NAME) != null) throw AppException(Words.of(R.string.data_exists, NAME))
        File(folders.data, NAME).deleteRecursively() // torn
        val text = try {
            context.assets.open("$ASSET.txt").use { it.readBytes().decodeToString() }
        } catch (error: IOException) {
            throw AppException(Words.of(R.string.sample_missing), error)
        }
        return TextData(folders).make(NAME, bundle, listOf(text))
    }

    companion object {
        /** Of the model, the text and the run: none that a person would choose. */
        const val NAME = "jane-austen-sample"
        private const val ASSET = "sample"

        /** The rate suits a model as small as this one; tools/android/make_sample.py trains with the same. */
        val SETTINGS = RunSettings(
            steps = 160, learningRate = 5e-3, gradientAccumulation = 4, schedule = "cosine", warmupSteps = 8, maxGradNorm = 1.0,
            evalEvery = 20, keep = "best",
        )

        fun isOf(run: Run) = run.bundle == NAME && run.data == NAME
    }
}
