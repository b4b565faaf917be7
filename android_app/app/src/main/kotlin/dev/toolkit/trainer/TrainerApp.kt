package dev.toolkit.trainer

import android.app.Application
import android.content.Context
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.policy.PhoneConditions
import dev.toolkit.trainer.policy.PolicyStore
import dev.toolkit.trainer.service.Asking
import dev.toolkit.trainer.service.ExitReasons
import dev.toolkit.trainer.service.Importing
import dev.toolkit.trainer.service.RunController
import dev.toolkit.trainer.service.Trial
import dev.toolkit.trainer.store.AppFolders
import dev.toolkit.trainer.store.BundleStore
import dev.toolkit.trainer.store.DataStore
import dev.toolkit.trainer.store.Estimates
import dev.toolkit.trainer.store.Leftovers
import dev.toolkit.trainer.store.RunStore
import dev.toolkit.trainer.store.Sample
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.Errand
import dev.toolkit.trainer.ui.MadeData
import dev.toolkit.trainer.ui.Sampled
import java.io.File

/** What screens and services share for as long as the process lives. */
class TrainerApp : Application() {
    val folders by lazy { AppFolders.of(this) }
    val bundles by lazy { BundleStore(folders) }
    val data by lazy { DataStore(folders) }
    val runs by lazy { RunStore(folders) }
    val sample by lazy { Sample(this, folders, bundles, data, runs) }
    val policy by lazy { PolicyStore(this) }
    val conditions by lazy { PhoneConditions(this) }
    val background = Background()
    val estimates by lazy { Estimates(this) }
    val exits by lazy { ExitReasons(this) }
    val makingData = Errand { MadeData(null, if (it is OutOfMemoryError) getString(R.string.text_memory) else unexpected(it)) }

    /** What makes data just now, to be cancelled. */
    @Volatile var makingText: TextData? = null

    /** Words about an export that is over. */
    val exporting = Errand { unexpected(it) }

    /** Told the run of the sample once it is made, or why it is not. */
    val sampling = Errand { Sampled(null, unexpected(it)) }

    /** Why a trial of two steps came to nothing; empty when it did not. */
    val trying = Errand { unexpected(it) }

    /** The one that is made just now or was last, to be cancelled. */
    @Volatile var trial: Trial? = null
    val asking by lazy { Asking(this) }
    val importing by lazy { Importing(this) }
    val controller by lazy {
        RunController(runs, bundles, data, { policy.read() }, { conditions.read() }, { exits.words() }) { bundle, length, sequences, progress ->
            estimates.learn(bundle, length, sequences, progress)
        }
    }

    override fun onCreate() {
        super.onCreate()
        Words.attach(this)
        val began = System.currentTimeMillis()
        background.run({ Leftovers(this).clear(began) })
        Engine.attach(applicationInfo.nativeLibraryDir?.let(::File))
    }

    private fun unexpected(error: Throwable) = getString(R.string.unexpected, error.toString())

    companion object {
        fun of(context: Context): TrainerApp = context.applicationContext as TrainerApp
    }
}
