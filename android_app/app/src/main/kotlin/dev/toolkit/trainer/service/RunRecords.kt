package dev.toolkit.trainer.service

import android.util.Log
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.Progress
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle
import dev.toolkit.trainer.store.BundleStore
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.DataStore
import dev.toolkit.trainer.store.Needs
import dev.toolkit.trainer.store.Outcome
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.RunStore
import dev.toolkit.trainer.store.TraceReader
import java.io.File

/** What the active run has on file: its options for the engine, its record, and what came of it. */
class RunRecords(
    private val runs: RunStore,
    private val bundles: BundleStore,
    private val data: DataStore,
    private val settings: () -> PolicySettings,
    private val learn: (Bundle, Int, Int, Progress) -> Unit,
) {
    fun options(run: Run): Map<String, String> {
        val bundle = bundles.require(run.bundle)
        val set = data.require(run.data)
        val threads = if (run.settings.threads > 0) run.settings.threads else settings().threads
        val options = options(run.settings.copy(threads = threads), bundle, set, run.folder)
        return if (run.trace.exists()) options + ("resume" to "true") else options
    }

    /** With what came of the run, from its trace; keeps what its steps took. */
    fun concluded(run: Run, progress: Progress?): Run {
        runCatching {
            val bundle = bundles.require(run.bundle)
            progress?.let { learn(bundle, data.require(run.data).sequenceLength, run.settings.gradientAccumulation, it) }
        }
        return run.copy(outcome = Outcome.of(TraceReader(run.trace).read()))
    }

    /** Writes run.json; a full disk must not end a run that the engine could still save. */
    fun write(run: Run): Run {
        try {
            runs.save(run)
        } catch (error: AppException) {
            Log.w("toolkit", error.message, error)
        }
        return run
    }

    companion object {
        /** What a run will hold, by the engine's [options]. */
        fun needs(options: Map<String, String>, begun: (() -> Unit) -> Unit = {}): Needs =
            Needs.of(Engine.dryRun(options, begun), Engine.isChild)

        /** What the engine is told of a run. */
        fun options(settings: RunSettings, bundle: Bundle, set: DataSet, out: File): Map<String, String> =
            LinkedHashMap(settings.options()).apply {
                put("bundle", bundle.folder.path)
                put("data", set.train.path)
                if (set.hasValidation && set.validation.isFile) put("eval-data", set.validation.path)
                put("out", out.path)
                put("threads", settings.threads.toString())
            }
    }
}
