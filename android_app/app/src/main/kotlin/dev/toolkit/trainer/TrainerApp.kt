package dev.toolkit.trainer

import android.app.Application
import android.content.Context
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.policy.PhoneConditions
import dev.toolkit.trainer.policy.PolicyStore
import dev.toolkit.trainer.service.ExitReasons
import dev.toolkit.trainer.service.RunController
import dev.toolkit.trainer.store.AppFolders
import dev.toolkit.trainer.store.BundleStore
import dev.toolkit.trainer.store.DataStore
import dev.toolkit.trainer.store.RunStore
import dev.toolkit.trainer.ui.Errand
import dev.toolkit.trainer.ui.MadeData
import java.io.File

/** What screens and services share for as long as the process lives. */
class TrainerApp : Application() {
    val folders by lazy { AppFolders.of(this) }
    val bundles by lazy { BundleStore(folders) }
    val data by lazy { DataStore(folders) }
    val runs by lazy { RunStore(folders) }
    val policy by lazy { PolicyStore(this) }
    val conditions by lazy { PhoneConditions(this) }
    val exits by lazy { ExitReasons(this) }
    val makingData = Errand<MadeData>()
    val controller by lazy { RunController(runs, bundles, data, policy::read, conditions::read, exits::words) }

    override fun onCreate() {
        super.onCreate()
        Engine.attach(applicationInfo.nativeLibraryDir?.let(::File))
    }

    companion object {
        fun of(context: Context): TrainerApp = context.applicationContext as TrainerApp
    }
}
